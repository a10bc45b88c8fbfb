"""Tiny checkpoints of every latent family, saved once a run, and models loaded from them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from t2i import checkpoints
from t2i.families.model import Model
from tests.t2i import tiny

BUILDERS = {
    "sd": tiny.stable_diffusion,
    "sd-v": lambda: tiny.stable_diffusion("v_prediction"),
    "sd-inpaint": lambda: tiny.stable_diffusion(in_channels=9),
    "sdxl": tiny.sdxl,
    "sd3": tiny.sd3,
    "flux": tiny.flux,
    "flux-schnell": lambda: tiny.flux(guidance_embeds=False),
}


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny checkpoint by its name in BUILDERS, as diffusers saved it."""
    root = tmp_path_factory.mktemp("families")
    return cache(lambda name: tiny.save(BUILDERS[name](), root / name))


@pytest.fixture(scope="session")
def loaded(saved: Callable[[str], Path]) -> Callable[[str], Model]:
    """The same, loaded by this project to the CPU in float32."""
    return cache(lambda name: checkpoints.load(saved(name), device="cpu"))
