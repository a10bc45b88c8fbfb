"""What goes wrong in a step, or slows it, is felt by nobody whom it does not concern."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load
from torch import Tensor

from t2i import checkpoints
from t2i.api import (
    Cancelled,
    Done,
    Event,
    Failed,
    GenerationRequest,
    Hardware,
    ImageReady,
    Progress,
    RequestEvent,
    Submit,
)
from t2i.engine import recovery, runner
from t2i.engine.loop import StepLoop
from t2i.engine.models import Models
from t2i.families.model import Model, Rows

pytestmark = pytest.mark.usefixtures("one_thread")

APPLE = GenerationRequest(prompt="a red apple", images=4, seed=7, width=16, steps=4, sampler="euler_a")
CAT = GenerationRequest(prompt="a cat", images=2, seed=1, width=16, steps=6)
TREE = GenerationRequest(prompt="a tree", seed=3, width=16, steps=5, guidance_scale=1.0)
TOLERANCE = 1e-4
"""Relative, of latents: other numbers of rows add up in another order."""


class Flawed:
    """A model whose forwards are watched: `forward` gets the rows and the real `predict`, and may do anything."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.forwards: list[int] = []
        """Rows of every forward."""
        self.precisely: list[int] = []
        """The same, of those in float32."""
        self._precise = False
        self.forward: Callable[[Rows, Callable[[Rows], Tensor]], Tensor] = lambda rows, predict: predict(rows)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def predict(self, rows: Rows) -> Tensor:
        (self.precisely if self._precise else self.forwards).append(len(rows.latents))
        return self.forward(rows, self._model.predict)

    @contextmanager
    def precise(self) -> Iterator[None]:
        self._precise = True
        yield
        self._precise = False

    def fits(self, most: int) -> None:
        """Let memory run out with more rows than `most`."""

        def forward(rows: Rows, predict: Callable[[Rows], Tensor]) -> Tensor:
            if len(rows.latents) > most:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return predict(rows)

        self.forward = forward

    def breaks(self, seed: int, *, in_float32: bool) -> None:
        """Let the image of this seed, which is known by its first noise, come out as NaN."""
        marked = runner.admit(self._model, GenerationRequest(prompt="-", seed=seed, width=16, steps=4), "marked")
        noise = marked.latents[0]

        def forward(rows: Rows, predict: Callable[[Rows], Tensor]) -> Tensor:
            output = predict(rows)
            bad = torch.tensor([bool(torch.equal(row, noise)) for row in rows.latents])
            if bad.any() and (in_float32 or not self._precise):
                output[bad] = float("nan")
            return output

        self.forward = forward


@pytest.fixture(scope="module")
def folder(checkpoints_dir: Path) -> Path:
    return checkpoints_dir


@pytest.fixture(scope="module")
def sound(folder: Path) -> Model:
    return checkpoints.load(folder / "tiny", "cpu", dtype="float32")


@pytest.fixture
def model(sound: Model) -> Flawed:
    return Flawed(sound)


class Played:
    """The events of requests stepped together until all have ended."""

    def __init__(self, folder: Path, model: Any, *, row_cap: int = 64) -> None:
        self.events: list[Event] = []
        models = Models(folder, Hardware(device="cpu"))
        models.add("tiny", model)
        self.loop = StepLoop(models, self.hear, row_cap=row_cap)
        self.on: Callable[[Event], None] = lambda event: None

    def hear(self, event: Event) -> None:
        self.events.append(event)
        self.on(event)

    def submit(self, request_id: str, request: GenerationRequest, **fields: Any) -> None:
        fields = {"preview_every": 0} | fields
        self.loop.submit(Submit(request_id=request_id, checkpoint="tiny", request=request, **fields))

    def run(self, **requests: GenerationRequest) -> None:
        for request_id, request in requests.items():
            self.submit(request_id, request)
        self.loop.drain()
        self.loop.run()

    def of(self, request_id: str) -> list[RequestEvent]:
        return [event for event in self.events if isinstance(event, RequestEvent) and event.request_id == request_id]

    def images(self, request_id: str) -> list[ImageReady]:
        return [event for event in self.of(request_id) if isinstance(event, ImageReady)]


@pytest.fixture
def played(folder: Path, model: Flawed) -> Played:
    return Played(folder, model)


def finished(model: Model, request: GenerationRequest) -> runner.Job:
    """A request drawn by itself."""
    job = runner.admit(model, request, "alone")
    while not job.finished:
        runner.step(model, [job])
    return job


def alone(model: Model, request: GenerationRequest) -> Tensor:
    """The latents it ends with then."""
    return finished(model, request).latents


def together(model: Any, requests: list[GenerationRequest], fits: recovery.Fits) -> list[runner.Job]:
    """Jobs drawn in shared forwards, which survive what the loop survives."""
    jobs = [runner.admit(model, request, str(index)) for index, request in enumerate(requests)]
    while flying := [job for job in jobs if not job.finished]:
        flying = [job for job in flying if job.group == flying[0].group]
        assert recovery.step(model, flying, "kind", fits) == {}
    return jobs


def error(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm())


# --- memory -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [1, 3, 8])
def test_rows_that_do_not_fit_at_once_draw_the_same_in_parts(model: Flawed, sound: Model, most: int) -> None:
    model.fits(most)
    jobs = together(model, [APPLE, CAT, TREE], recovery.Fits())
    for job, request in zip(jobs, [APPLE, CAT, TREE], strict=True):
        assert error(job.latents, alone(sound, request)) < TOLERANCE


def test_after_memory_ran_out_forwards_stay_small_and_grow_again_slowly(model: Flawed) -> None:
    fits = recovery.Fits()
    model.fits(4)
    together(model, [APPLE], fits)
    assert model.forwards[:3] == [8, 4, 4]
    assert set(model.forwards[1:]) == {4}
    for _ in range(recovery.REGAIN_TICKS):
        fits.stepped("kind")
    assert fits.rows("kind") is None


def test_one_row_that_does_not_fit_fails_its_request_with_a_sentence_and_no_other(
    played: Played, model: Flawed
) -> None:
    large = GenerationRequest(prompt="a red apple", seed=7, width=16, steps=4, tile=True)

    def forward(rows: Rows, predict: Callable[[Rows], Tensor]) -> Tensor:
        if rows.tile:
            raise MemoryError
        return predict(rows)

    model.forward = forward
    played.run(large=large, cat=CAT)
    (failed,) = [event for event in played.of("large") if isinstance(event, Failed)]
    assert failed.code == "memory" and "not enough memory" in failed.message
    assert isinstance(played.of("cat")[-1], Done)


def test_a_batch_that_does_not_fit_ends_well_for_everybody_in_it(played: Played, model: Flawed, sound: Model) -> None:
    model.fits(5)
    played.run(apple=APPLE, cat=CAT)
    assert max(model.forwards[1:]) > 5 >= max(model.forwards[-4:])
    for request_id in ("apple", "cat"):
        assert isinstance(played.of(request_id)[-1], Done)
        steps = [event.step for event in played.of(request_id) if isinstance(event, Progress)]
        assert steps == sorted(set(steps))


def test_whoever_was_stepped_before_another_broke_is_not_stepped_twice(model: Flawed, sound: Model) -> None:
    apple, cat = (runner.admit(model, request, request.prompt) for request in (APPLE, CAT))

    def broken(*arguments: object) -> None:
        raise RuntimeError("shapes differ")

    cat.advance = broken
    failures = recovery.step(model, [apple, cat], "kind", recovery.Fits())
    assert [str(error) for error in failures.values()] == ["shapes differ"] and list(failures) == [CAT.prompt]
    assert apple.step == 1


# --- numbers that are none --------------------------------------------------------------------------------------------


def test_only_rows_that_are_not_finite_are_asked_for_again_in_float32(model: Flawed, sound: Model) -> None:
    model.breaks(CAT.seed, in_float32=False)
    apple, cat = together(model, [APPLE, CAT], recovery.Fits())
    assert model.precisely == [4]  # two images, both halves of guidance, one step
    assert model.forwards.count(12) == APPLE.steps
    assert error(cat.latents, alone(sound, CAT)) < TOLERANCE
    assert error(apple.latents, alone(sound, APPLE)) < TOLERANCE


def test_who_is_not_finite_even_then_fails_and_neighbours_keep_their_step(played: Played, model: Flawed) -> None:
    model.breaks(CAT.seed, in_float32=True)
    played.run(apple=APPLE, cat=CAT)
    (failed,) = [event for event in played.of("cat") if isinstance(event, Failed)]
    assert failed.code == "numerics"
    assert isinstance(played.of("apple")[-1], Done)
    # The shared step was not done again for the neighbour.
    assert model.forwards[:2] == [12, 8]
    assert model.precisely == [4]


def test_the_library_says_so_too(model: Flawed) -> None:
    model.breaks(CAT.seed, in_float32=True)
    job = runner.admit(model, CAT, "cat")
    with pytest.raises(runner.NotFinite, match="noise the model could not resolve"):
        runner.step(model, [job])
    assert job.step == 0


# --- exact ------------------------------------------------------------------------------------------------------------


def test_an_exact_request_has_the_bits_that_it_has_alone_whoever_is_in_flight(
    played: Played, model: Flawed, sound: Model
) -> None:
    request = GenerationRequest(prompt="a red apple", images=2, seed=7, width=16, steps=4, exact=True)
    played.run(tree=TREE, exact=request, apple=APPLE, again=request)
    first, again = played.images("exact"), played.images("again")
    expected = runner.results(sound, finished(sound, request))
    for images in (first, again):
        assert [(image.png, image.latents) for image in images] == [(image.png, image.latents) for image in expected]
    assert model.forwards.count(4) == 2 * 4


def test_an_exact_request_is_not_taken_apart_where_it_does_not_fit(played: Played, model: Flawed) -> None:
    model.fits(2)
    played.run(exact=GenerationRequest(prompt="a cat", images=2, seed=1, width=16, steps=2, exact=True), tree=TREE)
    assert [event.code for event in played.of("exact") if isinstance(event, Failed)] == ["memory"]
    assert model.forwards.count(4) == 2
    assert isinstance(played.of("tree")[-1], Done)


# --- cancel, pause, previews ------------------------------------------------------------------------------------------


def test_a_long_request_that_is_cancelled_leaves_within_two_steps(played: Played) -> None:
    long = GenerationRequest(prompt="a road", images=2, seed=1, width=16, steps=100)
    cancelled_at: list[int] = []

    def on(event: Event) -> None:
        if isinstance(event, Progress) and event.request_id == "long" and event.step == 5:
            played.loop.cancel("long")
            cancelled_at.append(event.step)

    played.on = on
    played.run(long=long, apple=APPLE, cat=CAT)
    assert isinstance(played.of("long")[-1], Cancelled)
    assert max(event.step for event in played.of("long") if isinstance(event, Progress)) <= cancelled_at[0] + 2
    assert isinstance(played.of("apple")[-1], Done) and isinstance(played.of("cat")[-1], Done)


def test_a_paused_request_goes_on_where_it_was_and_draws_the_same(played: Played, sound: Model) -> None:
    def on(event: Event) -> None:
        match event:
            case Progress(request_id="apple", step=2):
                played.loop.pause("apple")
            case Done(request_id="cat"):
                played.loop.resume("apple")
            case Done(request_id="apple"):
                played.loop.drain()

    played.on = on
    played.submit("apple", APPLE)
    played.submit("cat", CAT)
    played.loop.run()
    order = [event.request_id for event in played.events if isinstance(event, Done)]
    assert order == ["cat", "apple"]
    latents = torch.stack([load(image.latents)["latents"].float() for image in played.images("apple")])
    assert error(latents, alone(sound, APPLE)) < 1e-3  # kept in half precision


def test_previews_come_beside_the_steps_and_never_after_the_result(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: set[str] = set()
    sheet = runner.sheet

    def watched(model: Any, latents: Tensor) -> bytes:
        threads.add(threading.current_thread().name)
        return sheet(model, latents)

    monkeypatch.setattr(runner, "sheet", watched)
    played.submit("cat", GenerationRequest(prompt="a cat", images=2, seed=1, width=16, steps=40), preview_every=1)
    played.run()
    events = played.of("cat")
    steps = [event.step for event in events if isinstance(event, Progress)]
    assert steps == sorted(steps) and set(range(1, 43)) >= set(steps)
    previews = [index for index, event in enumerate(events) if isinstance(event, Progress) and event.preview]
    assert previews and threads == {"encoder_0"}
    assert max(previews) < min(index for index, event in enumerate(events) if isinstance(event, ImageReady))


def test_a_newer_preview_takes_the_place_of_one_that_waits(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first is held up until ten steps are done: then there is one more to make, and not nine."""
    allowed, made = threading.Event(), []

    def held(model: Any, latents: Tensor) -> bytes:
        allowed.wait(30)
        made.append(latents)
        return b"preview"

    def on(event: Event) -> None:
        if isinstance(event, Progress) and event.step == 10 and event.preview is None:
            allowed.set()

    monkeypatch.setattr(runner, "sheet", held)
    played.on = on
    played.submit("cat", GenerationRequest(prompt="a cat", seed=1, width=16, steps=12), preview_every=1)
    played.run()
    assert 1 <= len(made) <= 4


def test_nothing_is_told_of_a_request_after_its_cancel(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    """A preview is being made and another waits when it is cancelled."""
    allowed, made = threading.Event(), []

    def held(model: Any, latents: Tensor) -> bytes:
        made.append(latents)
        allowed.wait(30)
        return b"preview"

    def on(event: Event) -> None:
        match event:
            case Progress(step=6):
                played.loop.cancel("cat")
            case Cancelled():
                allowed.set()

    monkeypatch.setattr(runner, "sheet", held)
    played.on = on
    played.submit("cat", GenerationRequest(prompt="a cat", seed=1, width=16, steps=12), preview_every=1)
    played.run()
    assert len(made) == 1
    assert isinstance(played.of("cat")[-1], Cancelled)
