"""The step loop in this process and on this thread, so that who was stepped with whom can be written down."""

from __future__ import annotations

import shutil
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from t2i import checkpoints
from t2i.api import (
    Cancelled,
    Done,
    EngineError,
    Event,
    Failed,
    GenerationRequest,
    Hardware,
    ImageReady,
    Loaded,
    Progress,
    RequestEvent,
    Submit,
)
from t2i.engine import runner
from t2i.engine.loop import StepLoop
from t2i.engine.models import Models
from t2i.families.model import Model

FOUR = GenerationRequest(prompt="a red apple", images=4, seed=7, width=16, steps=6)


@pytest.fixture(scope="module")
def folder(checkpoints_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("loop")
    for name in ("tiny", "second", "third"):
        shutil.copytree(checkpoints_dir / "tiny", folder / name)
    return folder


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return checkpoints.load(folder / "tiny", "cpu")


@dataclass
class Loop:
    """A step loop, the events it sent and the batches it stepped."""

    steps: StepLoop
    events: list[Event]
    batches: list[list[str]] = field(default_factory=list)
    before_step: Callable[[list[str]], None] = lambda batch: None
    """Called with the request ids of each batch; may raise in the network's place."""

    def submit(self, request_id: str, request: GenerationRequest = FOUR, checkpoint: str = "tiny") -> None:
        self.steps.submit(Submit(request_id=request_id, checkpoint=checkpoint, request=request, preview_every=0))

    def run(self) -> None:
        """Step until everything submitted has ended."""
        self.steps.drain()
        self.steps.run()

    def last(self, request_id: str) -> RequestEvent:
        return [e for e in self.events if isinstance(e, RequestEvent) and e.request_id == request_id][-1]


@pytest.fixture
def loop(folder: Path, model: Model, monkeypatch: pytest.MonkeyPatch) -> Loop:
    models = Models(folder, Hardware(device="cpu"))
    models.add("tiny", model)
    events: list[Event] = []
    loop = Loop(StepLoop(models, events.append, row_cap=16), events)
    step = runner.step

    def recorded(model: Model, jobs: list[runner.Job], *, at_once: int | None = None) -> None:
        batch = [job.request_id for job in jobs]
        loop.batches.append(batch)
        loop.before_step(batch)
        step(model, jobs, at_once=at_once)

    monkeypatch.setattr(runner, "step", recorded)
    return loop


def test_two_requests_of_one_group_share_every_forward(loop: Loop) -> None:
    loop.submit("a")
    loop.submit("b")
    loop.run()
    assert loop.batches == [["a", "b"]] * 6
    assert isinstance(loop.last("a"), Done) and isinstance(loop.last("b"), Done)


def test_rows_over_the_cap_wait_after_their_first_step_and_whoever_came_first_ends_first(loop: Loop) -> None:
    for request_id in "abc":
        loop.submit(request_id)
    loop.run()
    assert loop.batches == [["a", "b"], ["a", "c"], *[["a", "b"]] * 4, ["b", "c"], *[["c"]] * 4]


def test_requests_at_different_stages_take_turns_and_all_end(loop: Loop) -> None:
    loop.submit("upscaled", GenerationRequest(prompt="a cat", seed=1, width=64, steps=3))
    loop.submit("small", GenerationRequest(prompt="a cat", seed=1, width=16, steps=9))
    loop.run()
    assert all(isinstance(loop.last(request_id), Done) for request_id in ("upscaled", "small"))
    assert Counter(request_id for batch in loop.batches for request_id in batch) == {"upscaled": 5, "small": 9}


def test_a_cancel_takes_effect_before_the_next_step_and_spares_the_neighbour(loop: Loop) -> None:
    loop.submit("a")
    loop.submit("b")
    loop.before_step = lambda batch: loop.steps.cancel("a") if len(loop.batches) == 3 else None
    loop.run()
    assert loop.batches == [["a", "b"]] * 3 + [["b"]] * 3
    assert isinstance(loop.last("a"), Cancelled)
    assert isinstance(loop.last("b"), Done)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RuntimeError("shapes differ"), "engine"),
        (torch.OutOfMemoryError("no room"), "memory"),
        (EngineError("Not a number.", code="numerics"), "numerics"),
    ],
)
def test_a_request_that_fails_harms_nobody_in_its_batch(loop: Loop, error: Exception, code: str) -> None:
    def fail(batch: list[str]) -> None:
        if "bad" in batch and len(loop.batches) >= 3:
            raise error

    loop.before_step = fail
    loop.submit("good")
    loop.submit("bad")
    loop.run()
    failed = loop.last("bad")
    assert isinstance(failed, Failed) and failed.code == code
    assert isinstance(loop.last("good"), Done)
    # Its steps are counted once, although one of them was tried again.
    assert [e.step for e in loop.events if isinstance(e, Progress) and e.request_id == "good"] == [1, 2, 3, 4, 5, 6]


def test_pictures_that_cannot_be_made_fail_their_request_only(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    results = runner.results

    def broken(model: Model, sequence: runner.Sequence) -> list[ImageReady]:
        if sequence.request_id == "bad":
            raise RuntimeError("the decoder broke")
        return results(model, sequence)

    monkeypatch.setattr(runner, "results", broken)
    loop.submit("bad")
    loop.submit("good")
    loop.run()
    assert isinstance(loop.last("bad"), Failed)
    assert isinstance(loop.last("good"), Done)


def test_steps_go_on_while_another_checkpoint_is_loaded(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    load, allowed = checkpoints.load, threading.Event()

    def slow(path: Path, **options: Any) -> Model:
        assert allowed.wait(60)
        return load(path, **options)

    monkeypatch.setattr(checkpoints, "load", slow)
    loop.before_step = lambda batch: allowed.set() if len(loop.batches) == 6 else None
    loop.submit("waits", checkpoint="second")
    loop.submit("waits too", checkpoint="second")
    loop.submit("goes on")
    loop.run()
    assert loop.batches == [["goes on"]] * 6 + [["waits", "waits too"]] * 6
    assert ("tiny", "second") in [event.checkpoints for event in loop.events if isinstance(event, Loaded)]


def test_a_request_can_be_cancelled_while_its_checkpoint_is_loaded(loop: Loop) -> None:
    loop.submit("a", checkpoint="second")
    loop.steps.cancel("a")
    loop.run()
    assert [e for e in loop.events if isinstance(e, RequestEvent)] == [Cancelled(request_id="a")]
