"""What a checkpoint can do and does by default, from its manifest, its configs and the headers of its weights."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from t2i.api import SAMPLERS, CheckpointError, CheckpointInfo, Feature
from t2i.checkpoints import schedulers
from t2i.checkpoints.detect import Found, components, detect
from t2i.checkpoints.files import Manifest, identity, number, read_header, read_json, read_manifest, weight_files

_CONFIGS = Path(__file__).parent / "configs"
_TITLES = {
    "sd": "Stable Diffusion",
    "sdxl": "Stable Diffusion XL",
    "sd3": "Stable Diffusion 3",
    "flux": "FLUX",
}
_FEATURES: dict[str, tuple[Feature, ...]] = {
    "sd": ("negative_prompt", "image", "mask", "tile", "loras", "any_size"),
    "sdxl": ("negative_prompt", "image", "mask", "tile", "loras", "any_size"),
    "sd3": ("negative_prompt", "image", "mask", "loras", "any_size"),
    "flux": ("image", "mask", "loras", "any_size"),
}
_SINGLE_FILE_PARTS = ("model.diffusion_model.", "first_stage_model.", "cond_stage_model.", "conditioner.embedders.")
_SD2_BASE_SIZE = 512
"""Pixels of the SD2 checkpoints that predict the noise; those that predict the velocity draw 768."""


def describe(path: Path) -> CheckpointInfo:
    """Reads no weights. Raises CheckpointError."""
    found = detect(path)
    if found.kind == "lora":
        raise CheckpointError(f"{path.name} is a LoRA, no checkpoint: put it into the folder of LoRAs.")
    if found.family == "cascade":
        from t2i.families import cascade

        return cascade.describe(path)
    manifest = read_manifest(path) or Manifest(name=_name(path))
    if found.family == "pipeline":
        return _describe_pipeline(found, manifest)
    return _describe_stepped(found, manifest)


def scheduler_config(found: Found, manifest: Manifest | None) -> dict[str, Any]:
    """The scheduler's config, of a stepped family; a manifest may correct what the network predicts."""
    prediction_type = manifest.defaults.prediction_type if manifest else None
    if found.kind == "folder":
        config = read_json(found.path / "scheduler" / "scheduler_config.json")
        return config if prediction_type is None else {**config, "prediction_type": prediction_type}
    config = read_json(_CONFIGS / found.config / "scheduler" / "scheduler_config.json")
    if found.zero_terminal_snr:
        config |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    if prediction_type is None and found.v_prediction:
        prediction_type = "v_prediction"
    return schedulers.for_single_file(config, found.path.stem, prediction_type)


def config_of(found: Found, part: str) -> dict[str, Any]:
    """The config.json of a part, the shipped one for a single file."""
    folder = found.path if found.kind == "folder" else _CONFIGS / found.config
    return read_json(folder / part / "config.json")


def _describe_stepped(found: Found, manifest: Manifest) -> CheckpointInfo:
    assert found.family is not None
    scheduler = scheduler_config(found, manifest)
    schedulers.read_scheduler(scheduler)
    embedded_guidance = found.family == "flux" and bool(config_of(found, "transformer").get("guidance_embeds"))
    choice = schedulers.choose(found.family, scheduler, embedded_guidance=embedded_guidance)
    defaults = manifest.defaults
    size = defaults.size or _size(found, scheduler)
    flow = found.family in ("sd3", "flux")
    return CheckpointInfo(
        name=manifest.name,
        family=found.family,
        description=manifest.description or f"{_TITLES[found.family]}, {size} px.",
        licence=manifest.licence or licence_of(found.path),
        sha256=identity(found.path),
        parameters=_parameters(found),
        sizes=(size,),
        default_size=size,
        steps=choice.steps if defaults.steps is None else defaults.steps,
        sampler=defaults.sampler or choice.sampler,
        guidance_scale=choice.guidance_scale if defaults.guidance_scale is None else defaults.guidance_scale,
        samplers=tuple(sampler for sampler in SAMPLERS if flow or sampler != "flow_euler"),
        features=_FEATURES[found.family],
    )


def _describe_pipeline(found: Found, manifest: Manifest) -> CheckpointInfo:
    from t2i.families.pipeline import default_size, read_call

    call = read_call(found.path)
    defaults = manifest.defaults
    scheduler = found.path / "scheduler" / "scheduler_config.json"
    sampler = schedulers.sampler_of(read_json(scheduler)) if scheduler.is_file() else "euler"
    size = defaults.size or default_size(found.path, call)
    features: tuple[Feature, ...] = ("negative_prompt", "any_size") if call.negative_prompt else ("any_size",)
    return CheckpointInfo(
        name=manifest.name,
        family="pipeline",
        description=manifest.description or f"{found.index['_class_name'].removesuffix('Pipeline')}, {size} px.",
        licence=manifest.licence or licence_of(found.path),
        sha256=identity(found.path),
        parameters=_parameters(found),
        sizes=(size,),
        default_size=size,
        steps=call.steps if defaults.steps is None else defaults.steps,
        sampler=sampler,
        guidance_scale=call.guidance_scale if defaults.guidance_scale is None else defaults.guidance_scale,
        samplers=(sampler,),
        features=features,
    )


def licence_of(path: Path) -> str:
    """What the model card beside a checkpoint says, or "unknown"."""
    card = path / "README.md"
    if not card.is_file():
        return "unknown"
    text = card.read_text(encoding="utf-8", errors="replace")
    names = dict(re.findall(r"^(license|license_name): *[\"']?([\w.+ -]+)", text, re.MULTILINE))
    return str(names.get("license_name") or names.get("license") or "unknown").strip()


def _name(path: Path) -> str:
    return path.stem if path.is_file() else path.resolve().name


def _size(found: Found, scheduler: dict[str, Any]) -> int:
    """Pixels of the square pictures that the denoiser was trained on."""
    vae = config_of(found, "vae")
    if found.family == "flux":
        return int(number(vae, "sample_size", 1024, least=1))
    if found.config == "sd21" and scheduler["prediction_type"] == "epsilon":
        return _SD2_BASE_SIZE
    channels = vae.get("block_out_channels")
    if not isinstance(channels, list):
        raise CheckpointError(f"The config of the vae of {found.path.name} names no block_out_channels.")
    denoiser = config_of(found, "transformer" if found.family == "sd3" else "unet")
    latent_size = int(number(denoiser, "sample_size", 64 if found.family == "sd" else 128, least=1))
    return latent_size << max(0, len(channels) - 1)


def _parameters(found: Found) -> int:
    if found.kind == "file":
        tensors = read_header(found.path).tensors
        return sum(info.parameters for name, info in tensors.items() if name.startswith(_SINGLE_FILE_PARTS))
    folders = [found.path / name for name, _, _ in components(found) if name != "safety_checker"]
    weights = [file for folder in folders if any(folder.glob("*.safetensors")) for file in weight_files(folder)]
    return sum(read_header(file).parameters for file in weights)
