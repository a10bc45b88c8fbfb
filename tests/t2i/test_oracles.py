"""Every sampler in every family against diffusers' own pipeline: from the same noise, the same latents."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import product

import msgspec
import pytest
from torch import Tensor

from t2i.api import GenerationRequest
from t2i.engine import runner
from tests.t2i.oracle import (
    NEGATIVE,
    PROMPT,
    SCHEDULERS,
    SEED,
    TOLERANCE,
    drawn,
    error,
    noise,
    one_noise,
    request,
    theirs,
    with_sampler,
)

pytestmark = pytest.mark.usefixtures("one_thread")

STEPS = (2, 7, 20, 50)
GUIDANCE = (1.0, 3.5, 7.5)
UNETS = ("sd", "sdxl")

Expected = Callable[[str, str, int, float], Tensor]


@pytest.fixture(scope="session")
def expected(loaded, pipeline) -> Expected:
    """What diffusers draws with a U-Net checkpoint, by sampler, steps and guidance."""

    @cache
    def draw(name: str, sampler: str, steps: int, guidance: float) -> Tensor:
        with one_noise():
            return theirs(
                with_sampler(pipeline(name), sampler),
                noise(loaded(name)),
                negative_prompt=NEGATIVE,
                num_inference_steps=steps,
                guidance_scale=guidance,
            )

    return draw


# Every setting in one family; of the others those that differ in what they ask of a table.
SETTINGS = [
    *(("sd", *setting) for setting in product(SCHEDULERS, STEPS, GUIDANCE)),
    *(("sdxl", *setting) for setting in product(SCHEDULERS, (7, 20), (1.0, 7.5))),
    *(("sd-v", *setting) for setting in product(SCHEDULERS, (2, 7), (7.5,))),
]


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: "-".join(map(str, setting)))
def test_a_unet_draws_what_diffusers_draws(loaded, expected: Expected, setting: tuple[str, str, int, float]) -> None:
    name, *sampling = setting
    assert error(drawn(loaded(name), request(*sampling)), expected(*setting)) < TOLERANCE


@pytest.mark.parametrize("name", ["sd", "sdxl", "sd-v"])
def test_requests_that_join_and_leave_one_batch_draw_what_diffusers_draws(
    loaded, expected: Expected, name: str
) -> None:
    model = loaded(name)
    settings = [setting for of, *setting in SETTINGS if of == name]
    waiting = [runner.admit(model, request(*setting), str(setting)) for setting in settings]
    everyone, flying = list(waiting), []
    while waiting or flying:
        # One joins at every tick and those that are done leave, so that the batch is never the same twice.
        flying += [waiting.pop()] if waiting else []
        runner.step(model, flying)
        flying = [sequence for sequence in flying if not sequence.finished]
    for setting, sequence in zip(settings, everyone, strict=True):
        assert error(sequence.latents, expected(name, *setting)) < TOLERANCE, setting


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("guidance", GUIDANCE)
def test_sd3_draws_what_diffusers_draws(loaded, pipeline, steps: int, guidance: float) -> None:
    model = loaded("sd3")
    settings = {"negative_prompt": NEGATIVE, "num_inference_steps": steps, "guidance_scale": guidance}
    ours = drawn(model, request("flow_euler", steps, guidance))
    assert error(ours, theirs(pipeline("sd3"), noise(model), **settings)) < TOLERANCE


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize(("name", "guidance"), [("flux", 1.0), ("flux", 3.5), ("flux-schnell", 1.0)])
def test_flux_draws_what_diffusers_draws(loaded, pipeline, name: str, steps: int, guidance: float) -> None:
    model = loaded(name)
    asked = GenerationRequest(prompt=PROMPT, seed=SEED, steps=steps, guidance_scale=guidance)
    expected = theirs(pipeline(name), noise(model), num_inference_steps=steps, guidance_scale=guidance)
    assert error(drawn(model, asked), expected) < TOLERANCE


def test_flux_of_several_guidances_share_a_batch(loaded, pipeline) -> None:
    model = loaded("flux")
    asked = [GenerationRequest(prompt=PROMPT, seed=SEED, steps=4, guidance_scale=scale) for scale in (1.0, 3.5, 9.0)]
    sequences = [runner.admit(model, each, "shared") for each in asked]
    while not sequences[0].finished:
        runner.step(model, sequences)
    for each, sequence in zip(asked, sequences, strict=True):
        expected = theirs(pipeline("flux"), noise(model), num_inference_steps=4, guidance_scale=each.guidance_scale)
        assert error(sequence.latents, expected) < TOLERANCE


def test_transformers_share_a_batch_too(loaded, pipeline) -> None:
    model = loaded("sd3")
    settings = [(steps, guidance) for steps in (2, 5, 9) for guidance in (1.0, 4.0)]
    sequences = [runner.admit(model, request("flow_euler", *setting), str(setting)) for setting in settings]
    flying = sequences
    while flying:
        runner.step(model, flying)
        flying = [sequence for sequence in flying if not sequence.finished]
    for (steps, guidance), sequence in zip(settings, sequences, strict=True):
        asked = {"negative_prompt": NEGATIVE, "num_inference_steps": steps, "guidance_scale": guidance}
        assert error(sequence.latents, theirs(pipeline("sd3"), noise(model), **asked)) < TOLERANCE


@pytest.mark.parametrize("name", ["sd", "sdxl", "sd3", "flux"])
def test_a_picture_of_another_shape_is_drawn_alike(loaded, pipeline, name: str) -> None:
    model = loaded(name)
    size = {"width": 96, "height": 32}
    asked = GenerationRequest(prompt=PROMPT, seed=SEED, steps=3, guidance_scale=4.0, **size)
    pipe = pipeline(name)
    if name in UNETS:
        asked, pipe = msgspec.structs.replace(asked, sampler="euler"), with_sampler(pipe, "euler")
    expected = theirs(pipe, noise(model, **size), num_inference_steps=3, guidance_scale=4.0)
    assert error(drawn(model, asked), expected) < TOLERANCE
