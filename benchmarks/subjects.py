"""The checkpoints that are measured: the embedded one, and Stable Diffusion's with random weights, which take as long
as trained ones."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
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
from t2i.families.cascade import REFERENCES, Cascade
from t2i.families.model import Model

TOLERANCES = {"float32": 1e-4, "bfloat16": 5e-2}
"""Largest relative error of latents against arm 1. bfloat16 keeps 8 bits, which kernels round as the batch has it."""


@dataclass(frozen=True, slots=True)
class Subject:
    """One checkpoint as our engine and as diffusers have it, and what is asked of it."""

    name: str
    folder: Path
    model: Model
    """In the precision that it takes here by itself."""
    plain: Plain
    """In float32 for the embedded checkpoint, in that of `model` for the others."""
    mix: Mix
    rows: tuple[int, ...]
    """Batches that are measured."""
    dtype: str
    """That of `model`."""
    in_float32: Callable[[], Model] | None = None
    """Our model in arm 1's precision, where it is not in that anyway."""
    networks: dict[str, Callable[[int], None]] = field(default_factory=dict)
    """Further ones of diffusers to be timed: a forward by its rows."""


def embedded(device: torch.device, scratch: Path, *, small: bool) -> Subject:
    """The cascade's base network, at the size of a grid; `small`: untrained and tiny. Without its reference pictures,
    so that every step that is asked for is drawn."""
    folder = tiny.build(scratch / "tiny") if small else _without_references(resolve(EMBEDDED), scratch / "embedded")
    model = cast(Cascade, t2i.checkpoints.load(folder, str(device)))
    mix = Mix(model.info.sizes[0], ("flow_euler", "dpmpp_2m", "ddim", "euler_a"))
    rows = (1, 2, 4, 8, 16) if device.type == "cpu" else (1, 2, 4, 8, 16, 32, 64)
    subject = Subject(
        "embedded", folder, model, PlainCascade(folder, model), mix, rows, str(model.dtype).removeprefix("torch.")
    )
    if model.dtype == torch.float32:
        return subject
    return replace(
        subject,
        in_float32=lambda: cast(Model, t2i.checkpoints.load(folder, str(device), dtype="float32")),
        networks={f"diffusers, {subject.dtype}": PlainCascade(folder, model, model.dtype).forward},
    )


def _without_references(checkpoint: Path, folder: Path) -> Path:
    shutil.copytree(checkpoint, folder, ignore=shutil.ignore_patterns(REFERENCES), dirs_exist_ok=True)
    index = json.loads((checkpoint / "model_index.json").read_text())
    index["files"] = {name: digest for name, digest in index["files"].items() if not name.startswith(f"{REFERENCES}/")}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def sd15(device: torch.device, scratch: Path, *, small: bool) -> Subject:
    folder = random_checkpoint("sd15", device, scratch, small=small)
    return _latent("sd15", 64 if small else 512, (1, 2, 4, 8, 16, 32), folder, device)


def sdxl(device: torch.device, scratch: Path, *, small: bool) -> Subject:
    folder = random_checkpoint("sdxl", device, scratch, small=small)
    return _latent("sdxl", 64 if small else 1024, (1, 2, 4, 8, 16), folder, device)


def _latent(name: str, size: int, rows: tuple[int, ...], folder: Path, device: torch.device) -> Subject:
    dtype = latent_dtype(device)
    precision = str(dtype).removeprefix("torch.")
    model = t2i.checkpoints.load(folder, str(device), dtype=precision)
    pipeline = DiffusionPipeline.from_pretrained(folder, dtype=dtype, local_files_only=True).to(device)
    mix = Mix(size, ("euler", "dpmpp_2m", "ddim", "euler_a"))
    return Subject(name, folder, cast(Model, model), PlainPipeline(pipeline, size), mix, rows, precision)


def random_checkpoint(name: str, device: torch.device, scratch: Path, *, small: bool) -> Path:
    """The folder of sd15 or sdxl in `scratch`, written unless it is there."""
    folder = scratch / name
    if not (folder / "model_index.json").is_file():
        build, build_small = _BUILDS[name]
        torch.manual_seed(0)
        # Gigabytes of random numbers come quicker where the networks will run.
        with torch.device("cpu" if small else device):
            pipeline = build_small() if small else build()
        pipeline.to(dtype=latent_dtype(device)).save_pretrained(folder, safe_serialization=True)
    return folder


def latent_dtype(device: torch.device) -> torch.dtype:
    """Of Stable Diffusion and SDXL, ours and diffusers'."""
    return torch.float32 if device.type == "cpu" else torch.bfloat16


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


_BUILDS: dict[str, tuple[Callable[[], DiffusionPipeline], Callable[[], DiffusionPipeline]]] = {
    "sd15": (_stable_diffusion, tiny_latent.stable_diffusion),
    "sdxl": (_stable_diffusion_xl, tiny_latent.sdxl),
}
