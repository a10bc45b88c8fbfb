"""Pictures drawn over other pictures, whole and behind a mask, against diffusers' own pipelines for that."""

from __future__ import annotations

import io
import sys
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from diffusers import (
    DiffusionPipeline,
    FluxImg2ImgPipeline,
    FluxInpaintPipeline,
    StableDiffusion3Img2ImgPipeline,
    StableDiffusion3InpaintPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLInpaintPipeline,
)
from PIL import Image, ImageDraw
from torch import Tensor

import t2i
from t2i.api import GenerationRequest
from t2i.engine import runner
from t2i.engine.noise import seeded_noise
from t2i.engine.starting import pack_latents
from tests.t2i.oracle import PROMPT, SEED, TOLERANCE, drawn, error, one_noise, with_sampler

pytestmark = pytest.mark.usefixtures("one_thread")

IMG2IMG = {
    "sd": StableDiffusionImg2ImgPipeline,
    "sd-v": StableDiffusionImg2ImgPipeline,
    "sdxl": StableDiffusionXLImg2ImgPipeline,
    "sd3": StableDiffusion3Img2ImgPipeline,
    "flux": FluxImg2ImgPipeline,
}
INPAINT = {
    "sd": StableDiffusionInpaintPipeline,
    "sd-inpaint": StableDiffusionInpaintPipeline,
    "sdxl": StableDiffusionXLInpaintPipeline,
    "sd3": StableDiffusion3InpaintPipeline,
    "flux": FluxInpaintPipeline,
}
UNETS = ("sd", "sd-v", "sd-inpaint", "sdxl")
SIZE = 64


def photograph() -> Image.Image:
    rows, columns = np.mgrid[:SIZE, :SIZE]
    pixels = np.stack([rows * 4, columns * 4, (rows + columns) * 2], -1).clip(0, 255)
    return Image.fromarray(pixels.astype(np.uint8))


def hole() -> Image.Image:
    mask = Image.new("L", (SIZE, SIZE))
    ImageDraw.Draw(mask).rectangle((16, 24, 47, 47), fill=255)
    return mask


def png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def theirs(kind: type[DiffusionPipeline], pipe: DiffusionPipeline, **settings: Any) -> Tensor:
    """Latents [1, C, h, w] of one of diffusers' pipelines that start from a picture, which take its mode as we do."""
    if hasattr(pipe, "unet"):
        pipe = with_sampler(pipe, "euler")
    pipe = kind(**{name: part for name, part in pipe.components.items() if name != "image_encoder"})
    pipe.set_progress_bar_config(disable=True)
    module = sys.modules[kind.__module__]
    packed = hasattr(pipe, "_pack_latents")

    def first_noise(shape: tuple[int, ...], **_: object) -> Tensor:
        return seeded_noise(SEED, 0, tuple(shape[1:]))[None]

    with pytest.MonkeyPatch.context() as patch, one_noise():
        patch.setattr(module, "randn_tensor", first_noise)
        patch.setattr(module, "retrieve_latents", lambda output, generator=None: output.latent_dist.mode())
        latents = pipe(prompt=PROMPT, height=SIZE, width=SIZE, output_type="latent", **settings).images
    return pipe._unpack_latents(latents, SIZE, SIZE, pipe.vae_scale_factor) if packed else latents


def asked(name: str, **fields: Any) -> GenerationRequest:
    sampler = "euler" if name in UNETS else "flow_euler"
    return GenerationRequest(prompt=PROMPT, seed=SEED, steps=10, guidance_scale=4.0, sampler=sampler, **fields)


@pytest.mark.parametrize("name", IMG2IMG)
def test_a_picture_is_drawn_over_as_diffusers_does(loaded, pipeline, name: str) -> None:
    settings = {"image": photograph(), "strength": 0.6, "num_inference_steps": 10, "guidance_scale": 4.0}
    expected = theirs(IMG2IMG[name], pipeline(name), **settings)
    ours = drawn(loaded(name), asked(name, image=png(photograph()), strength=0.6))
    assert error(ours, expected) < TOLERANCE


@pytest.mark.parametrize("strength", [0.6, 1.0])
@pytest.mark.parametrize("name", INPAINT)
def test_what_a_mask_uncovers_is_drawn_as_diffusers_does(loaded, pipeline, name: str, strength: float) -> None:
    settings = {"image": photograph(), "mask_image": hole(), "strength": strength, "num_inference_steps": 10}
    expected = theirs(INPAINT[name], pipeline(name), **settings, guidance_scale=4.0)
    ours = drawn(loaded(name), asked(name, image=png(photograph()), mask=png(hole()), strength=strength))
    # An inpainting network is shown grey behind the mask: 128 in a picture, 127.5 in diffusers' arithmetic.
    assert error(ours, expected) < (2e-3 if name == "sd-inpaint" else TOLERANCE)


@pytest.mark.parametrize("name", ["sd", "sd-inpaint", "sdxl", "sd3", "flux", "cascade"])
def test_outside_its_mask_a_picture_stays_what_it_was(loaded, tiny_checkpoint, name: str) -> None:
    model = t2i.checkpoints.load(tiny_checkpoint, device="cpu", dtype="float32") if name == "cascade" else loaded(name)
    fields = {"image": png(photograph()), "mask": png(hole()), "steps": 3, "seed": 1}
    sequence = runner.admit(model, GenerationRequest(prompt=PROMPT, **fields), "masked")
    while not sequence.finished:
        runner.step(model, [sequence])
    (image,) = runner.results(model, sequence)
    picture = np.asarray(Image.open(io.BytesIO(image.png)).convert("RGB")).astype(int)
    outside = np.asarray(hole()) == 0
    change = np.abs(picture - np.asarray(photograph()))
    assert (change[outside] == 0).all()
    assert change[~outside].mean() > 5


@pytest.mark.parametrize("name", ["sd", "sdxl", "sd3", "flux"])
def test_a_variation_starts_from_the_latents_of_a_result(loaded, name: str) -> None:
    model = loaded(name)
    parent = drawn(model, GenerationRequest(prompt=PROMPT, seed=1, steps=3))

    def distance(strength: float) -> float:
        latents = (pack_latents(parent[0]),)
        child = GenerationRequest(prompt=PROMPT, seed=2, steps=8, latents=latents, strength=strength)
        return error(drawn(model, child), parent)

    assert distance(0.0) < 1e-3  # latents are kept in half precision
    assert distance(0.25) < distance(1.0)


def test_the_embedded_checkpoint_starts_from_a_picture() -> None:
    model = t2i.checkpoints.load("embedded", device="cpu")

    def distance(strength: float) -> float:
        request = GenerationRequest(
            prompt=PROMPT, seed=1, steps=8, image=png(photograph()), strength=strength, width=64
        )
        sequence = runner.admit(model, request, "over")
        while not sequence.finished:
            runner.step(model, [sequence])
        assert sequence.base is not None
        (small,) = model.decode(sequence.base)
        wanted = photograph().resize(small.size, Image.Resampling.LANCZOS)
        return float(np.abs(np.asarray(small.convert("RGB")).astype(int) - np.asarray(wanted)).mean())

    assert distance(0.0) < 2
    assert distance(0.0) < distance(0.4) < distance(1.0)


def test_pictures_and_masks_share_a_batch_with_plain_requests(loaded) -> None:
    model = loaded("sd")
    requests = [
        asked("sd"),
        asked("sd", image=png(photograph()), strength=0.6),
        asked("sd", image=png(photograph()), mask=png(hole())),
    ]
    alone = [drawn(model, request) for request in requests]
    everyone = [runner.admit(model, request, "shared") for request in requests]
    flying = everyone
    while flying:
        runner.step(model, flying)
        flying = [sequence for sequence in flying if not sequence.finished]
    for sequence, expected in zip(everyone, alone, strict=True):
        assert error(sequence.latents, expected) < TOLERANCE


def test_a_picture_of_another_shape_gives_its_shape_to_what_is_drawn(loaded) -> None:
    model = loaded("sd")
    wide = photograph().resize((200, 50))
    settled = runner.admit(model, asked("sd", image=png(wide), strength=0.5), "wide").admitted
    assert (settled.width, settled.height) == (128, 64)


@pytest.mark.parametrize("name", ["sd", "sdxl", "sd3", "flux"])
def test_strength_one_forgets_the_picture(loaded, name: str) -> None:
    request = asked(name)
    over = msgspec.structs.replace(request, image=png(photograph()), strength=1.0, width=SIZE, height=SIZE)
    plain = msgspec.structs.replace(request, width=SIZE, height=SIZE)
    assert torch.equal(drawn(loaded(name), over), drawn(loaded(name), plain))
