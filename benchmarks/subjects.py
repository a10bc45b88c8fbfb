"""The checkpoints that are measured: the embedded one, and Stable Diffusion's with random weights, which take as long
as trained ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from diffusers import (
    AutoencoderKL,
    DiffusionPipeline,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

import t2i.checkpoints
from benchmarks.plain import Plain, PlainCascade, PlainPipeline
from benchmarks.traces import Mix
from t2i.checkpoints import tiny, tiny_latent
from t2i.checkpoints.registry import EMBEDDED, resolve
from t2i.checkpoints.single_file import CONFIGS, clip_tokenizer
from t2i.families.cascade import Cascade
from t2i.families.model import Model

FLOAT32_TOLERANCE = 1e-4
BFLOAT16_TOLERANCE = 5e-2
"""Largest relative error of latents against arm 1. bfloat16 keeps 8 bits, and kernels round differently by batch."""


@dataclass(frozen=True, slots=True)
class Subject:
    """One checkpoint as our engine and as diffusers have it, and what is asked of it."""

    name: str
    folder: Path
    model: Model
    plain: Plain
    mix: Mix
    rows: tuple[int, ...]
    """Batches that are measured."""
    tolerance: float
    dtype: torch.dtype


def embedded(device: torch.device, scratch: Path, *, small: bool) -> Subject:
    """The cascade's base network, at the size of a grid; `small`: untrained and tiny."""
    folder = tiny.build(scratch / "tiny") if small else resolve(EMBEDDED)
    model = cast(Cascade, t2i.checkpoints.load(folder, str(device)))
    mix = Mix(model.info.sizes[0], ("flow_euler", "dpmpp_2m", "ddim", "euler_a"))
    rows = (1, 2, 4, 8, 16) if device.type == "cpu" else (1, 2, 4, 8, 16, 32, 64)
    return Subject("embedded", folder, model, PlainCascade(folder, model), mix, rows, FLOAT32_TOLERANCE, torch.float32)


def sd15(device: torch.device, scratch: Path, *, small: bool) -> Subject:
    build = tiny_latent.stable_diffusion if small else _stable_diffusion
    return _latent("sd15", build, 512, (1, 2, 4, 8, 16, 32), device=device, scratch=scratch, small=small)


def sdxl(device: torch.device, scratch: Path, *, small: bool) -> Subject:
    build = tiny_latent.sdxl if small else _stable_diffusion_xl
    return _latent("sdxl", build, 1024, (1, 2, 4, 8, 16), device=device, scratch=scratch, small=small)


def _latent(
    name: str,
    build: Callable[[], DiffusionPipeline],
    size: int,
    rows: tuple[int, ...],
    *,
    device: torch.device,
    scratch: Path,
    small: bool,
) -> Subject:
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    folder = scratch / name
    if not folder.is_dir():
        torch.manual_seed(0)
        # Gigabytes of random numbers come quicker where the networks will run.
        with torch.device("cpu" if small else device):
            pipeline = build()
        pipeline.to(dtype=dtype).save_pretrained(folder, safe_serialization=True)
        del pipeline
    model = t2i.checkpoints.load(folder, str(device), dtype=str(dtype).removeprefix("torch."))
    pipeline = DiffusionPipeline.from_pretrained(folder, torch_dtype=dtype, local_files_only=True).to(device)
    size = 64 if small else size
    mix = Mix(size, ("euler", "dpmpp_2m", "ddim", "euler_a"))
    tolerance = FLOAT32_TOLERANCE if dtype == torch.float32 else BFLOAT16_TOLERANCE
    return Subject(name, folder, cast(Model, model), PlainPipeline(pipeline, size), mix, rows, tolerance, dtype)


def _stable_diffusion() -> DiffusionPipeline:
    folder = CONFIGS / "sd15"
    return StableDiffusionPipeline(
        unet=UNet2DConditionModel.from_config(_config(folder / "unet")),
        vae=AutoencoderKL.from_config(_config(folder / "vae")),
        text_encoder=CLIPTextModel(CLIPTextConfig(**_config(folder / "text_encoder"))),
        tokenizer=clip_tokenizer(),
        scheduler=_scheduler(folder),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _stable_diffusion_xl() -> DiffusionPipeline:
    folder = CONFIGS / "sdxl"
    return StableDiffusionXLPipeline(
        unet=UNet2DConditionModel.from_config(_config(folder / "unet")),
        vae=AutoencoderKL.from_config(_config(folder / "vae")),
        text_encoder=CLIPTextModel(CLIPTextConfig(**_config(folder / "text_encoder"))),
        text_encoder_2=CLIPTextModelWithProjection(CLIPTextConfig(**_config(folder / "text_encoder_2"))),
        tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer("!"),
        scheduler=_scheduler(folder),
    )


def _scheduler(folder: Path) -> EulerDiscreteScheduler:
    config = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    return EulerDiscreteScheduler.from_config(config)


def _config(folder: Path) -> dict[str, object]:
    config: dict[str, object] = json.loads((folder / "config.json").read_text())
    return config
