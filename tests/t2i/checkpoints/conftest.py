"""Tiny single files, and folders that tests may damage."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from diffusers import DiffusionPipeline
from safetensors.torch import save_file
from transformers import CLIPTextModel

from t2i.checkpoints import tiny_latent as tiny
from tests.t2i.checkpoints import originals


def stable_diffusion_2() -> DiffusionPipeline:
    pipeline = tiny.stable_diffusion("v_prediction")
    pipeline.text_encoder = CLIPTextModel(tiny.clip_text_config(hidden_act="gelu")).eval()
    return pipeline


_ORIGINALS = {
    "sd15": (tiny.stable_diffusion, originals.stable_diffusion_1),
    "sd15-inpaint": (lambda: tiny.stable_diffusion(in_channels=9), originals.stable_diffusion_1),
    "sd21": (stable_diffusion_2, originals.stable_diffusion_2),
    "sdxl": (tiny.sdxl, originals.sdxl),
}


@pytest.fixture(scope="session")
def single(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Path]]:
    """By its name in _ORIGINALS, a tiny single file and the folder that diffusers saved of the same weights."""
    root = tmp_path_factory.mktemp("single")

    @cache
    def build(name: str) -> tuple[Path, Path]:
        build_pipeline, original = _ORIGINALS[name]
        pipeline = build_pipeline()
        weights = {key: weight.contiguous().clone() for key, weight in original(pipeline.components).items()}
        save_file(weights, root / f"{name}.safetensors")
        return root / f"{name}.safetensors", tiny.save(pipeline, root / name)

    return build


@pytest.fixture
def copy_of(saved: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a tiny folder, to be changed."""
    return lambda name: Path(shutil.copytree(saved(name), tmp_path / name))
