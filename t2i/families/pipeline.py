"""Any diffusers text-to-image pipeline that has no family of its own, as diffusers itself runs it."""

from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import (
    DiffusionPipeline,
    KandinskyCombinedPipeline,
    KandinskyV22CombinedPipeline,
    SchedulerMixin,
)
from torch import nn

from t2i.api import CheckpointError, CheckpointInfo, GenerationRequest, InvalidRequest
from t2i.checkpoints.folder import default_dtype_kept
from t2i.families.model import Model
from t2i.families.parts import Placement
from t2i.families.planning import size_for
from t2i.families.prompt import plain

_NEEDED = ("prompt", "num_inference_steps", "num_images_per_prompt", "generator", "height", "width")
_NOT_FROM_TEXT_ALONE = (
    "adapter_conditioning_scale",
    "control_image",
    "controlnet_conditioning_scale",
    "image_guidance_scale",
    "mask_image",
    "noise_level",
    "num_frames",
    "strength",
    "video_length",
)
"""Parameters that give away pipelines which draw on a picture, or draw films."""

_GUIDANCE = ("guidance_scale", "true_cfg_scale", "prior_guidance_scale")

_CANNOT = {
    "respacing": "cannot respace its steps",
    "latents": "cannot start from another picture",
    "image": "cannot start from a picture",
    "mask": "cannot draw behind a mask",
    "tile": "cannot draw seamless tiles",
    "loras": "takes no LoRAs",
    "eta": "lets no one choose its noise",
    "guidance_rescale": "cannot rescale its guidance",
    "guidance_interval": "guides in every step",
}

_DRAWS_THE_NEGATIVE_TOO = (KandinskyCombinedPipeline, KandinskyV22CombinedPipeline)
"""Their priors draw something for a negative prompt as well, for which diffusers finds no seed in a list."""

_OPEN = GenerationRequest(prompt="")

_SIDE_STEP = 8
"""Pixels; a pipeline that needs more says so itself when it runs."""


@dataclass(frozen=True)
class Call:
    """How a pipeline class is called to draw: the parameters of its `__call__` and their defaults."""

    pipeline_class: type[DiffusionPipeline]
    defaults: Mapping[str, Any]

    @classmethod
    def of(cls, pipeline_class: type[DiffusionPipeline]) -> Call:
        """Raises CheckpointError for a class that does not draw pictures from text alone, step by step."""
        parameters = inspect.signature(pipeline_class.__call__).parameters
        demanded = {
            name
            for name, parameter in parameters.items()
            if parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        }
        if (
            any(name not in parameters for name in _NEEDED)
            or not {"callback_on_step_end", "callback"} & parameters.keys()
            or any(name in parameters for name in _NOT_FROM_TEXT_ALONE)
            or demanded - {"self", "prompt"}
        ):
            raise CheckpointError(f"A {pipeline_class.__name__} does not draw pictures from text alone.")
        return cls(pipeline_class, {name: parameter.default for name, parameter in parameters.items()})

    @property
    def steps(self) -> int:
        return int(self.defaults["num_inference_steps"])

    @property
    def guidance(self) -> str | None:
        """The parameter that sets how closely the prompt is followed."""
        return next((name for name in _GUIDANCE if isinstance(self.defaults.get(name), int | float)), None)

    @property
    def guidance_scale(self) -> float:
        return 1.0 if self.guidance is None else float(self.defaults[self.guidance])

    @property
    def negative_prompt(self) -> bool:
        return "negative_prompt" in self.defaults

    def arguments(self, request: GenerationRequest, info: CheckpointInfo) -> dict[str, Any]:
        """What to call the pipeline with, seeds and callbacks apart. Raises InvalidRequest for what it cannot do."""
        for field, cannot in _CANNOT.items():
            if getattr(request, field) != getattr(_OPEN, field):
                raise InvalidRequest(field, f"{info.name} {cannot}.")
        if request.sampler not in (None, info.sampler):
            raise InvalidRequest("sampler", f"{info.name} draws with its own sampler only.")
        if request.negative_prompt and not self.negative_prompt:
            raise InvalidRequest("negative_prompt", f"{info.name} takes no negative prompt.")
        if request.negative_prompt and request.images > 1 and issubclass(self.pipeline_class, _DRAWS_THE_NEGATIVE_TOO):
            raise InvalidRequest("negative_prompt", f"{info.name} draws one image at a time with a negative prompt.")
        if request.guidance_scale is not None and self.guidance is None:
            raise InvalidRequest("guidance_scale", f"{info.name} has no guidance that could be set.")
        width, height = size_for(request, info, _SIDE_STEP)
        arguments = {
            "prompt": plain(request.prompt),
            "num_inference_steps": request.steps or info.steps,
            "num_images_per_prompt": request.images,
            "width": width,
            "height": height,
        }
        if self.guidance is not None:
            arguments[self.guidance] = info.guidance_scale if request.guidance_scale is None else request.guidance_scale
        if request.negative_prompt:
            arguments["negative_prompt"] = plain(request.negative_prompt)
        elif self.guidance == "true_cfg_scale" and self.negative_prompt:
            # Such pipelines guide only where they are given something to be guided away from.
            arguments["negative_prompt"] = " "
        if "clean_caption" in self.defaults:
            # It undoes HTML where libraries for that happen to be installed: the same seed draws the same everywhere.
            arguments["clean_caption"] = False
        return arguments


class WholePipeline:
    """A loaded pipeline that draws whole requests; `t2i.engine.whole` makes it stop after every step."""

    def __init__(self, folder: Path, info: CheckpointInfo, placement: Placement) -> None:
        """`folder` is as diffusers saves one. Raises CheckpointError, and then nothing stays loaded."""
        self.info = info
        self.device = placement.denoiser
        self.call = read_call(folder)
        self._pipeline = _load(folder, self.call.pipeline_class, placement)

    def modules(self) -> list[nn.Module]:
        return [part for part in self._pipeline.components.values() if isinstance(part, nn.Module)]

    def fresh(self) -> DiffusionPipeline:
        """A pipeline of its own for one request: it shares the weights, and nothing that a run changes."""
        return _fresh(self._pipeline)

    def expected_steps(self, num_inference_steps: int) -> int:
        """How often a run of so many steps calls back.

        Second-order schedulers take two steps for each but the last, and only the legacy callback hides that.
        """
        if "callback_on_step_end" not in self.call.defaults:
            return num_inference_steps
        count: int = self._pipeline.scheduler.order * (num_inference_steps - 1) + 1
        if "prior_callback_on_step_end" in self.call.defaults:
            count += self.call.defaults["prior_num_inference_steps"]
        return count


AnyModel = Model | WholePipeline
"""What a checkpoint may be loaded as."""


def read_call(folder: Path) -> Call:
    """How the pipeline in a folder is called, without its weights.

    Raises CheckpointError when its class is unknown, brings code of its own or draws no pictures from text.
    """
    index = _read_json(folder / "model_index.json")
    name = index.get("_class_name")
    parts = [entry for entry in index.values() if isinstance(entry, list) and len(entry) == 2]
    if isinstance(name, list) or not all(_is_known(library) for library, _ in parts):
        raise CheckpointError(f"{folder.name} brings code of its own, which is never run.")
    pipeline_class = getattr(diffusers, name, None) if isinstance(name, str) else None
    if not (inspect.isclass(pipeline_class) and issubclass(pipeline_class, DiffusionPipeline)):
        raise CheckpointError(f"{folder.name} is a {name}, which diffusers {diffusers.__version__} does not know.")
    return Call.of(pipeline_class)


def default_size(folder: Path, call: Call) -> int:
    """Pixels of a square picture as the pipeline draws it unasked, from its configuration alone."""
    height = call.defaults["height"]
    if isinstance(height, int):
        return height
    denoiser = next((part for part in ("transformer", "unet") if (folder / part / "config.json").is_file()), None)
    sample_size = denoiser and _read_json(folder / denoiser / "config.json").get("sample_size")
    if not isinstance(sample_size, int):
        return 1024
    vae = folder / "vae" / "config.json"
    # A pipeline without an autoencoder draws pixels.
    channels = _read_json(vae).get("block_out_channels", [...] * 4) if vae.is_file() else [...]
    return sample_size << (len(channels) - 1)


def _load(folder: Path, pipeline_class: type[DiffusionPipeline], placement: Placement) -> DiffusionPipeline:
    try:
        with default_dtype_kept():
            pipeline = pipeline_class.from_pretrained(
                folder,
                local_files_only=True,
                use_safetensors=True,
                torch_dtype=placement.dtype,
                trust_remote_code=False,
            )
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # diffusers and transformers raise nearly anything over files they do not like
        reason = str(error).strip().partition("\n")[0]
        raise CheckpointError(f"{folder.name} cannot be loaded as a {pipeline_class.__name__}: {reason}") from error
    for part, module in pipeline.components.items():
        if isinstance(module, nn.Module):
            missing = [name for name, weight in module.named_parameters() if weight.is_meta]
            if missing:
                raise CheckpointError(f"{folder.name} is incomplete: {part} lacks {missing[0]}.")
    pipeline.set_progress_bar_config(disable=True)
    if placement.offload:
        pipeline.enable_model_cpu_offload(device=placement.denoiser)
    else:
        pipeline.to(placement.denoiser)
    return pipeline


def _fresh(pipeline: DiffusionPipeline) -> DiffusionPipeline:
    fresh = copy.copy(pipeline)
    for name, part in vars(pipeline).items():
        if isinstance(part, SchedulerMixin):
            setattr(fresh, name, type(part).from_config(part.config))
        elif isinstance(part, DiffusionPipeline):
            setattr(fresh, name, _fresh(part))
    return fresh


def _is_known(library: object) -> bool:
    """Whether a part of a pipeline comes from a library, or from a module of diffusers' pipelines."""
    if isinstance(library, str):
        return library in ("diffusers", "transformers") or hasattr(diffusers.pipelines, library)
    return True


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path.parent.name} has no readable {path.name}.") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path.parent.name} has no readable {path.name}.")
    return content
