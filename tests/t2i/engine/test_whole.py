"""Whole pipelines stepped in ticks: what they draw is what diffusers draws, whoever else is drawn in between."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from diffusers import (
    DiffusionPipeline,
    PNDMScheduler,
)
from PIL import Image

from t2i.api import (
    Cancelled,
    Done,
    EngineError,
    Event,
    Failed,
    GenerationRequest,
    Hardware,
    ImageReady,
    InvalidRequest,
    Lora,
    Progress,
    Submit,
)
from t2i.checkpoints import tiny_latent as tiny
from t2i.engine.loop import StepLoop
from t2i.engine.models import Models
from t2i.engine.whole import WholeJob
from t2i.families.pipeline import WholePipeline
from tests.t2i.families.pipelines import BUILDERS, SIZE, load, pixart

KANDINSKY_PRIOR_STEPS = 25


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    root = tmp_path_factory.mktemp("pipelines")
    return cache(lambda name: tiny.save(BUILDERS[name](), root / name))


@pytest.fixture(scope="module")
def model(folder: Callable[[str], Path]) -> Callable[[str], WholePipeline]:
    return cache(lambda name: load(folder(name)))


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("draw-")]


REQUEST = GenerationRequest(
    prompt="a cat", negative_prompt="a dog", images=2, steps=3, guidance_scale=3.0, seed=7, width=SIZE, height=SIZE
)


def request_for(name: str) -> GenerationRequest:
    """Kandinsky draws one image at a time with a negative prompt."""
    return varied(negative_prompt=None) if name == "kandinsky" else REQUEST


def varied(**fields: Any) -> GenerationRequest:
    return msgspec.structs.replace(REQUEST, **fields)


def drawn(job: WholeJob) -> list[np.ndarray]:
    """The pictures of a job, advanced until it has finished."""
    while not job.finished:
        job.advance()
    return [np.asarray(Image.open(io.BytesIO(image.png))) for image in job.results()]


def drawn_by_diffusers(path: Path, request: GenerationRequest) -> list[np.ndarray]:
    pipeline = DiffusionPipeline.from_pretrained(path, local_files_only=True)
    generators = [torch.Generator("cpu").manual_seed((request.seed or 0) + i) for i in range(request.images)]
    images = pipeline(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        num_inference_steps=request.steps,
        guidance_scale=request.guidance_scale,
        num_images_per_prompt=request.images,
        width=request.width,
        height=request.height,
        generator=generators,
    ).images
    return [np.asarray(image) for image in images]


@pytest.mark.parametrize("name", BUILDERS)
def test_a_picture_is_the_one_that_diffusers_draws(
    name: str, folder: Callable[[str], Path], model: Callable[[str], WholePipeline]
) -> None:
    request = request_for(name)
    expected = drawn_by_diffusers(folder(name), request)
    pictures = drawn(WholeJob(model(name), request, "a"))
    assert len(pictures) == 2
    assert not np.array_equal(pictures[0], pictures[1])
    np.testing.assert_array_equal(pictures, expected)


@pytest.mark.parametrize(
    ("name", "steps"),
    [("pixart", 3), ("aura-flow", 3), ("aura-flow-heun", 5), ("kandinsky", 3 + KANDINSKY_PRIOR_STEPS)],
)
def test_every_advance_is_one_forward(name: str, steps: int, model: Callable[[str], WholePipeline]) -> None:
    whole, forwards = model(name), 0

    def count(*_: object) -> None:
        nonlocal forwards
        forwards += 1

    parts = whole.fresh().components
    networks = [parts[part] for part in ("transformer", "unet", "prior_prior") if part in parts]
    hooks = [network.register_forward_hook(count) for network in networks]
    job = WholeJob(whole, request_for(name), "a")
    assert job.admitted.steps == job.steps == steps
    assert forwards == 0
    for step in range(1, steps + 1):
        assert not job.finished
        assert job.rows == 4
        job.advance()
        assert (job.step, forwards) == (step, step)
    assert job.finished
    assert job.rows == 0
    for hook in hooks:
        hook.remove()


@pytest.mark.parametrize("name", BUILDERS)
def test_requests_stepped_in_turns_draw_what_they_draw_alone(name: str, model: Callable[[str], WholePipeline]) -> None:
    requests = [request_for(name), varied(prompt="a house", steps=4, seed=3, guidance_scale=5.0, images=1)]
    alone = [drawn(WholeJob(model(name), request, "alone")) for request in requests]
    jobs = [WholeJob(model(name), request, f"job-{index}") for index, request in enumerate(requests)]
    assert jobs[0].group != jobs[1].group
    while not all(job.finished for job in jobs):
        for job in jobs:
            if not job.finished:
                job.advance()
    for job, pictures in zip(jobs, alone, strict=True):
        np.testing.assert_array_equal(drawn(job), pictures)


@pytest.mark.parametrize("name", ["pixart", "kandinsky"])
def test_each_image_of_a_request_has_the_next_seed(name: str, model: Callable[[str], WholePipeline]) -> None:
    request = request_for(name)
    both = WholeJob(model(name), request, "a")
    second = WholeJob(model(name), msgspec.structs.replace(request, images=1, seed=8), "b")
    assert both.seeds == [7, 8]
    # A forward of more rows may round differently in its last bit.
    np.testing.assert_allclose(drawn(both)[1].astype(int), drawn(second)[0].astype(int), atol=1)


def test_more_steps_than_were_expected_are_part_of_the_last(tmp_path: Path) -> None:
    pipeline = pixart()
    # Its first step is taken twice.
    pipeline.scheduler = PNDMScheduler(skip_prk_steps=True)
    path = tiny.save(pipeline, tmp_path / "pndm")
    job = WholeJob(load(path), REQUEST, "a")
    pictures = drawn(job)
    assert job.step == job.steps == 3
    np.testing.assert_array_equal(pictures, drawn_by_diffusers(path, REQUEST))


def test_weights_of_words_are_left_out(model: Callable[[str], WholePipeline]) -> None:
    weighed = varied(prompt="(a:1.3) [cat]", negative_prompt="((a dog))")
    np.testing.assert_array_equal(
        drawn(WholeJob(model("pixart"), weighed, "a")), drawn(WholeJob(model("pixart"), REQUEST, "b"))
    )


def test_what_a_request_leaves_open_is_settled_when_it_is_admitted(model: Callable[[str], WholePipeline]) -> None:
    admitted = WholeJob(model("pixart"), GenerationRequest(prompt="a cat"), "a").admitted
    assert (admitted.steps, admitted.guidance_scale) == (20, 4.5)
    assert (admitted.width, admitted.height) == (SIZE, SIZE)


def test_a_closed_job_ends_its_thread_and_leaves_the_others_alone(model: Callable[[str], WholePipeline]) -> None:
    expected = drawn(WholeJob(model("pixart"), REQUEST, "alone"))
    dropped, kept, untouched = (WholeJob(model("pixart"), REQUEST, name) for name in ("dropped", "kept", "untouched"))
    dropped.advance()
    kept.advance()
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "draw-dropped"]
    for job in (dropped, dropped, untouched):
        job.close()
    assert not thread.is_alive()
    assert not dropped.finished
    np.testing.assert_array_equal(drawn(kept), expected)
    kept.close()


def test_what_a_pipeline_raises_comes_out_of_the_step_that_raised_it(model: Callable[[str], WholePipeline]) -> None:
    def fail(*_: object) -> None:
        raise MemoryError("no room")

    job = WholeJob(model("pixart"), REQUEST, "a")
    job.advance()
    hook = model("pixart").fresh().transformer.register_forward_hook(fail)
    with pytest.raises(MemoryError, match="no room"):
        job.advance()
    hook.remove()
    assert job.step == 1
    job.close()


def test_latents_that_are_not_finite_end_the_request(model: Callable[[str], WholePipeline]) -> None:
    def spoil(module: object, inputs: object, output: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        return (output[0] * torch.nan,)

    hook = model("aura-flow").fresh().transformer.register_forward_hook(spoil)
    with pytest.raises(EngineError, match="could not resolve"):
        WholeJob(model("aura-flow"), REQUEST, "a").advance()
    hook.remove()


@pytest.mark.parametrize(
    "fields",
    [
        {"sampler": "ddim"},
        {"respacing": "3"},
        {"latents": (b"",)},
        {"image": b"png"},
        {"image": b"png", "mask": b"png"},
        {"tile": True},
        {"loras": (Lora(name="style"),)},
        {"eta": 0.0},
        {"guidance_rescale": 0.5},
        {"guidance_interval": (0.0, 0.5)},
        {"width": 60},
    ],
    ids=lambda fields: list(fields)[-1],
)
def test_what_a_pipeline_cannot_do_is_refused(fields: dict[str, Any], model: Callable[[str], WholePipeline]) -> None:
    with pytest.raises(InvalidRequest, match=r"^pixart .*\.$") as refused:
        WholeJob(model("pixart"), varied(**fields), "a")
    assert refused.value.field in fields


def test_kandinsky_draws_one_image_at_a_time_with_a_negative_prompt(
    folder: Callable[[str], Path], model: Callable[[str], WholePipeline]
) -> None:
    with pytest.raises(InvalidRequest, match="one image at a time"):
        WholeJob(model("kandinsky"), REQUEST, "a")
    request = varied(images=1)
    expected = drawn_by_diffusers(folder("kandinsky"), request)
    np.testing.assert_array_equal(drawn(WholeJob(model("kandinsky"), request, "b")), expected)


def test_what_only_the_pipeline_knows_to_be_impossible_is_refused_in_its_words(
    model: Callable[[str], WholePipeline],
) -> None:
    with pytest.raises(InvalidRequest, match="divisible by 16 but are 64 and 72"):
        WholeJob(model("aura-flow"), varied(width=72), "a").advance()


def test_in_the_step_loop_a_short_request_passes_a_long_one_and_a_cancelled_one_leaves(
    folder: Callable[[str], Path],
) -> None:
    path = folder("pixart")
    requests = {"long": varied(steps=6), "dropped": varied(steps=6), "short": varied(steps=2)}
    events: list[Event] = []

    def submit(request_id: str) -> None:
        loop.submit(Submit(request_id=request_id, checkpoint="pixart", request=requests[request_id], preview_every=1))

    def emit(event: Event) -> None:
        events.append(event)
        match event:
            case Progress(request_id="long", step=2):
                submit("short")
                loop.drain()
            case Progress(request_id="dropped"):
                loop.cancel("dropped")

    loop = StepLoop(Models(path.parent, Hardware(device="cpu", dtype="float32")), emit, row_cap=16)
    submit("long")
    submit("dropped")
    loop.run()
    steps = [(event.request_id, event.step) for event in events if isinstance(event, Progress)]
    first, passing, rest = [("long", 1), ("long", 2)], [("short", 1), ("short", 2)], range(3, 7)
    assert steps == [*first, *passing, *(("long", step) for step in rest), ("dropped", 1)]
    ends = {event.request_id: type(event) for event in events if isinstance(event, Done | Cancelled | Failed)}
    assert ends == {"long": Done, "short": Done, "dropped": Cancelled}
    for request_id in ("long", "short"):
        images = [event for event in events if isinstance(event, ImageReady) and event.request_id == request_id]
        pictures = [np.asarray(Image.open(io.BytesIO(image.png))) for image in images]
        np.testing.assert_array_equal(pictures, drawn_by_diffusers(path, requests[request_id]))
