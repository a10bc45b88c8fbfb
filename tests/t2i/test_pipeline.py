"""The library as its users call it, on a tiny untrained checkpoint."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

import t2i
from t2i.api import MAX_SEED, SAMPLERS, CheckpointError, GenerationRequest, InvalidRequest
from t2i.engine import runner
from t2i.families.model import Model


@pytest.fixture(scope="module")
def pipeline(tiny_checkpoint) -> t2i.Pipeline:
    return t2i.load(tiny_checkpoint, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def model(tiny_checkpoint) -> Model:
    from t2i.checkpoints import load

    return load(tiny_checkpoint, device="cpu", dtype="float32")


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


def test_the_same_seed_draws_the_same_pixels(pipeline) -> None:
    request = GenerationRequest(prompt="a red apple", images=2, seed=7)
    first, second = pipeline.generate(request), pipeline.generate(request)
    assert [image.tobytes() for image in first.images] == [image.tobytes() for image in second.images]
    assert first.images[0].tobytes() != first.images[1].tobytes()


def test_image_i_draws_from_seed_plus_i_and_wraps_around(pipeline) -> None:
    together = pipeline.generate(GenerationRequest(prompt="a cat", images=2, seed=MAX_SEED))
    assert together.seeds == [MAX_SEED, 0]
    alone = pipeline.generate(GenerationRequest(prompt="a cat", images=1, seed=0))
    assert np.abs(pixels(together.images[1]) - pixels(alone.images[0])).max() <= 1


def test_open_fields_take_the_checkpoints_defaults(pipeline) -> None:
    settled = pipeline.generate(GenerationRequest(prompt="a cat")).settled
    info = pipeline.info
    assert (settled.width, settled.height) == (info.default_size, info.default_size)
    assert settled.sampler == info.sampler
    assert settled.guidance_scale == info.guidance_scale
    assert settled.steps == info.steps + 2  # the tiny upsampler takes two


def test_given_noise_replaces_the_seeds_noise(pipeline) -> None:
    noise = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(5))
    draw = lambda seed: pipeline.generate(GenerationRequest(prompt="a cat", seed=seed, width=16), noise=noise)  # noqa: E731
    assert draw(1).images[0].tobytes() == draw(2).images[0].tobytes()


def test_the_prompt_the_negative_prompt_and_guidance_each_change_the_picture(pipeline) -> None:
    def draw(**fields) -> bytes:
        return (
            pipeline.generate(GenerationRequest(**{"prompt": "a cat", "seed": 1, "width": 16} | fields))
            .images[0]
            .tobytes()
        )

    pictures = {draw(), draw(prompt="a dog"), draw(negative_prompt="a tree"), draw(guidance_scale=1.0)}
    assert len(pictures) == 4


def test_a_respacing_string_sets_the_steps(pipeline) -> None:
    result = pipeline.generate(GenerationRequest(prompt="a cat", respacing="3,2", width=16))
    assert result.settled.steps == 5


def test_a_variation_keeps_more_of_its_parent_the_weaker_it_is(pipeline) -> None:
    parent = pipeline.generate(GenerationRequest(prompt="a cat", seed=1, width=16))

    def distance(strength: float) -> float:
        request = GenerationRequest(
            prompt="a cat", images=1, seed=99, width=16, latents=(parent.latents[0],), strength=strength
        )
        return float(np.abs(pixels(pipeline.generate(request).images[0]) - pixels(parent.images[0])).mean())

    assert distance(0.0) <= 1  # half precision of the kept latents
    assert distance(0.25) < distance(1.0)


def test_strength_zero_only_upsamples(pipeline) -> None:
    parent = pipeline.generate(GenerationRequest(prompt="a cat", seed=1, width=16))
    upscaled = pipeline.generate(
        GenerationRequest(prompt="a cat", seed=1, width=64, latents=(parent.latents[0],), strength=0.0)
    )
    assert upscaled.images[0].size == (64, 64)
    assert upscaled.settled.steps == 2
    assert upscaled.latents == parent.latents


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"prompt": "  "}, "prompt is empty"),
        ({"prompt": "x" * 1001}, "1001 characters; at most 1000"),
        ({"images": 0}, "Images must be from 1 to 4"),
        ({"steps": 0}, "Steps must be from 1 to 200"),
        ({"seed": -1}, "Seed must be from 0 to 4294967295"),
        ({"guidance_scale": float("nan")}, "Guidance scale must be from 0.0 to 30.0"),
        ({"sampler": "plms"}, "no sampler named 'plms'"),
        ({"respacing": "ddim60"}, "exactly 60 steps"),
        ({"sampler": "lcm", "steps": 60}, "LCM takes at most 50"),
        ({"width": 48}, "draws pictures of 16x16 or 64x64 pixels"),
        ({"width": 64, "height": 16}, "draws pictures of 16x16 or 64x64 pixels"),
        ({"strength": 0.5}, "needs a picture to start from"),
        ({"latents": (b"junk",), "strength": 0.5}, "latents cannot be read"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_sentence(pipeline, fields, sentence) -> None:
    with pytest.raises(InvalidRequest, match=sentence):
        pipeline.generate(GenerationRequest(**{"prompt": "a cat"} | fields))


def test_latents_of_another_model_are_refused(pipeline) -> None:
    from safetensors.torch import save

    foreign = save({"latents": torch.zeros(4, 8, 8)})
    with pytest.raises(InvalidRequest, match="another kind of model"):
        pipeline.generate(GenerationRequest(prompt="a cat", latents=(foreign,), strength=0.5))


def test_requests_of_every_kind_share_a_batch_and_draw_what_they_draw_alone(model) -> None:
    requests = [
        GenerationRequest(prompt="a red apple", seed=1, steps=5, width=16),
        GenerationRequest(prompt="a cat", seed=2, steps=9, width=16, guidance_scale=1.0, sampler="ddpm"),
        GenerationRequest(prompt="a dog", seed=3, steps=7, width=16, images=3, sampler="dpmpp_2m", guidance_scale=6.0),
        GenerationRequest(prompt="a fox", seed=4, respacing="2,3", width=16, negative_prompt="a tree"),
        *(GenerationRequest(prompt="a hat", seed=5, steps=4, width=16, sampler=sampler) for sampler in SAMPLERS),
    ]
    alone = [draw_alone(model, request) for request in requests]
    # One joins at every tick, so that the batch is never the same twice.
    waiting = [runner.admit(model, request, str(index)) for index, request in enumerate(requests)]
    everyone, flying = list(waiting), []
    while waiting or flying:
        flying += [waiting.pop(0)] if waiting else []
        runner.step(model, flying)
        flying = [sequence for sequence in flying if not sequence.finished]
    for sequence, expected in zip(everyone, alone, strict=True):
        difference = (sequence.latents - expected).norm() / expected.norm()
        assert difference < 1e-4


def test_a_preview_between_two_stages_shows_what_the_first_one_drew(model) -> None:
    sequence = runner.admit(model, GenerationRequest(prompt="a cat", seed=1, steps=3, width=64), "preview")
    for _ in range(3):
        runner.step(model, [sequence])
    sheet = Image.open(io.BytesIO(runner.preview(model, sequence))).convert("RGBA")
    assert np.asarray(sheet)[..., :3].std() > 1


def draw_alone(model: Model, request: GenerationRequest) -> torch.Tensor:
    sequence = runner.admit(model, request, "alone")
    while not sequence.finished:
        runner.step(model, [sequence])
    return sequence.latents


def test_a_missing_checkpoint_is_named_with_what_there_is() -> None:
    with pytest.raises(CheckpointError, match="no checkpoint 'nowhere'; there is embedded"):
        t2i.load("nowhere")
