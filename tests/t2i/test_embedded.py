"""The checkpoint in the box: whole, small enough, and drawing what its prompt says as far as it can."""

from __future__ import annotations

import colorsys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import t2i
from t2i.api import GenerationRequest

WEIGHTS = Path(t2i.__file__).parent / "weights"


@pytest.fixture(scope="module")
def pipeline() -> t2i.Pipeline:
    return t2i.load("embedded", device="cpu")


def opaque(image: Image.Image) -> np.ndarray:
    """The colours of what is drawn, [n, 3] in 0..1."""
    pixels = np.asarray(image.convert("RGBA")).reshape(-1, 4) / 255
    return pixels[pixels[:, 3] > 0.5][:, :3]


def hue_distance(image: Image.Image, hue: float) -> float:
    """How far the drawing's mean colour is from a hue, 0..0.5."""
    actual = colorsys.rgb_to_hsv(*opaque(image).mean(0))[0]
    return min(abs(actual - hue), 1 - abs(actual - hue))


def test_it_fits_into_sixty_megabytes() -> None:
    assert sum(file.stat().st_size for file in WEIGHTS.rglob("*") if file.is_file()) < 60e6


@pytest.mark.parametrize(("colour", "hue"), [("red", 0.0), ("green", 0.33), ("blue", 0.6), ("purple", 0.76)])
def test_a_named_colour_is_the_colour_of_the_picture(pipeline: t2i.Pipeline, colour: str, hue: float) -> None:
    result = pipeline.generate(GenerationRequest(prompt=f"a {colour} heart", images=4, seed=7, width=64))
    near = [hue_distance(image, hue) < 0.1 for image in result.images]
    assert sum(near) >= 3, f"{colour}: {near}"


def test_a_picture_stands_on_a_transparent_ground_and_is_not_flat(pipeline: t2i.Pipeline) -> None:
    picture = pipeline.generate(GenerationRequest(prompt="a red apple", seed=7)).images[0]
    pixels = np.asarray(picture).astype(int)
    assert picture.size == (256, 256)
    assert picture.mode == "RGBA"
    assert (pixels[:8, :8, 3] < 128).all()
    assert 0.1 < (pixels[..., 3] > 128).mean() < 0.9
    assert opaque(picture).std() > 0.05


def test_the_upsampler_keeps_the_picture_and_adds_detail(pipeline: t2i.Pipeline) -> None:
    small = pipeline.generate(GenerationRequest(prompt="a red apple", seed=7, width=64))
    large = pipeline.generate(
        GenerationRequest(prompt="a red apple", seed=7, width=256, latents=(small.latents[0],), strength=0.0)
    ).images[0]
    back = np.asarray(large.convert("RGBa").resize((64, 64), Image.Resampling.BOX)).astype(int)
    original = np.asarray(small.images[0].convert("RGBa")).astype(int)
    assert np.abs(back - original).mean() < 8
