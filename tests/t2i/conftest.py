"""Tiny checkpoints of every latent family, saved once a run, and models loaded from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline

from t2i import checkpoints
from t2i.checkpoints import tiny_latent as tiny
from t2i.families.model import Model

BUILDERS = {
    "sd": tiny.stable_diffusion,
    "sd-v": lambda: tiny.stable_diffusion("v_prediction"),
    "sd-inpaint": lambda: tiny.stable_diffusion(in_channels=9),
    "sdxl": tiny.sdxl,
    "sd3": tiny.sd3,
    "flux": tiny.flux,
    "flux-schnell": lambda: tiny.flux(guidance_embeds=False),
}


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Networks of a few thousand weights lose more by handing work to other threads than they gain."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny checkpoint by its name in BUILDERS, as diffusers saved it."""
    root = tmp_path_factory.mktemp("families")
    return cache(lambda name: tiny.save(BUILDERS[name](), root / name))


@pytest.fixture(scope="session")
def loaded(saved: Callable[[str], Path]) -> Callable[[str], Model]:
    """The same, loaded by this project to the CPU in float32."""
    return cache(lambda name: checkpoints.load(saved(name), device="cpu", dtype="float32"))


@pytest.fixture(scope="session")
def pipeline(saved: Callable[[str], Path]) -> Callable[[str], DiffusionPipeline]:
    """diffusers' own pipeline of a tiny checkpoint."""

    @cache
    def load(name: str) -> DiffusionPipeline:
        found = DiffusionPipeline.from_pretrained(saved(name), local_files_only=True)
        found.set_progress_bar_config(disable=True)
        return found

    return load
