"""Seamless tiles: what is drawn at one edge goes on at the opposite one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

import t2i
from t2i.api import GenerationRequest, InvalidRequest
from t2i.engine import runner
from t2i.engine.noise import seeded_noise
from t2i.families.model import Model
from tests.t2i.oracle import PROMPT, SEED

pytestmark = pytest.mark.usefixtures("one_thread")

FAMILIES = {"cascade": 8, "sd": 2, "sdxl": 2}
"""Latents that the networks' strides are made of: rolling by as many changes nothing else."""
PATCH = 16
"""Pixels of an embedded picture that its small network draws at once."""


@pytest.fixture(scope="module")
def model(loaded, tiny_checkpoint):
    cascade = t2i.checkpoints.load(tiny_checkpoint, device="cpu", dtype="float32")
    return lambda name: cascade if name == "cascade" else loaded(name)


def pixels(model: Model, noise: torch.Tensor, *, tile: bool) -> np.ndarray:
    request = GenerationRequest(
        prompt=PROMPT, seed=SEED, steps=4, sampler="dpmpp_2m", tile=tile, width=model.info.sizes[0]
    )
    sequence = runner.admit(model, request, "tile", noise)
    while not sequence.finished:
        runner.step(model, [sequence])
    (picture,) = model.decode(sequence.latents, tile=tile)
    return np.asarray(picture.convert("RGB")).astype(int)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_tile_of_rolled_noise_is_the_rolled_tile(model, name: str) -> None:
    model, stride = model(name), FAMILIES[name]
    shape = model.stages(GenerationRequest(prompt=PROMPT, width=model.info.sizes[0]))[0].shape
    noise = seeded_noise(SEED, 0, shape)[None]
    rolled = noise.roll((stride, 2 * stride), (2, 3))
    scale = model.info.sizes[0] // shape[-1]

    def change(*, tile: bool) -> int:
        expected = np.roll(pixels(model, noise, tile=tile), (stride * scale, 2 * stride * scale), (0, 1))
        return int(np.abs(pixels(model, rolled, tile=tile) - expected).max())

    assert change(tile=True) <= 1
    assert change(tile=False) > 1


def jump(columns: np.ndarray, others: np.ndarray) -> float:
    return float(np.abs(columns.astype(int) - others).mean())


def test_opposite_edges_of_the_embedded_checkpoints_tile_continue_each_other() -> None:
    request = GenerationRequest(prompt="red strawberries", seed=3, images=2, tile=True)
    for picture in t2i.load("embedded", device="cpu").generate(request).images:
        drawn = np.asarray(Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB"))
        for across in (drawn, drawn.swapaxes(0, 1)):
            assert across[:, 0].std() > 10  # something crosses the edge
            # The network draws in patches, between which colours always jump a little: the edge is one such place.
            inside = [jump(across[:, column], across[:, column - 1]) for column in range(PATCH, 256, PATCH)]
            assert jump(across[:, 0], across[:, -1]) < 3 * np.max(inside)
            half = across[:, 100:]  # cut off, it has an edge that nothing continues
            assert jump(half[:, 0], half[:, -1]) > 10 * np.mean(inside)


@pytest.mark.parametrize("name", ["sd3", "flux"])
def test_networks_that_know_positions_refuse_to_tile(loaded, name: str) -> None:
    with pytest.raises(InvalidRequest, match="cannot draw seamless tiles"):
        runner.admit(loaded(name), GenerationRequest(prompt=PROMPT, tile=True), "tile")


def test_tiles_and_plain_pictures_do_not_share_a_forward(loaded) -> None:
    requests = [GenerationRequest(prompt=PROMPT, seed=SEED, tile=tile) for tile in (False, True)]
    plain, tile = (runner.admit(loaded("sd"), request, "group") for request in requests)
    assert plain.group != tile.group
