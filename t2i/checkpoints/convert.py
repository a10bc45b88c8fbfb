"""Single files as diffusers folders, and diffusers folders in another precision."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import diffusers
import msgspec
import torch
from safetensors.torch import load_file, save_file

from t2i.api import CheckpointError
from t2i.checkpoints.detect import Found, detect
from t2i.checkpoints.files import (
    MANIFEST,
    Manifest,
    appear,
    list_files,
    loadable_files,
    read_header,
    read_json,
    read_manifest,
    require_space,
    verify,
    write_manifest,
)
from t2i.checkpoints.folder import one_sentence, quiet
from t2i.checkpoints.info import describe, scheduler_config
from t2i.checkpoints.registry import pick_dtype
from t2i.checkpoints.single_file import CONFIGS, load_single_file
from t2i.checkpoints.transfer import sha256


def convert(source: Path, destination: Path, dtype: str | None = None, *, configs: Path | None = None) -> Path:
    """Write a checkpoint as a diffusers folder, in float32, float16, bfloat16 or, with None, as it is.

    `configs`: see `load_single_file`. Raises CheckpointError; the folder is there whole or not at all.
    """
    found = detect(source)
    if found.kind == "lora" or found.family == "cascade":
        raise CheckpointError(f"{source.name} cannot be converted: only single files and diffusers folders can.")
    problems = verify(source)
    if problems:
        raise CheckpointError(problems[0])
    precision = None if dtype is None else pick_dtype(dtype, torch.device("cpu"))
    info = describe(source)
    require_space(destination.parent, _size_after(found, precision))
    with appear(destination) as partial:
        if found.kind == "file":
            _write_single_file(found, partial, precision, configs)
        else:
            _write_folder(found, partial, precision)
        before = read_manifest(source) or Manifest(name="", source=source.name, licence=info.licence)
        hashes = {name: sha256(file) for name, file in list_files(partial).items()}
        manifest = msgspec.structs.replace(before, name=destination.name, files=hashes)
        write_manifest(partial / MANIFEST, manifest)
    return destination


def _write_single_file(found: Found, folder: Path, dtype: torch.dtype | None, configs: Path | None) -> None:
    with quiet():
        parts = load_single_file(found, dtype, dtype, configs)
        config = scheduler_config(found, read_manifest(found.path))
        scheduler = getattr(diffusers, config["_class_name"]).from_config(config)
        pipeline = _pipeline_class(found)(**parts, scheduler=scheduler, **_NOTHING_ELSE[found.config])
        pipeline.save_pretrained(folder, safe_serialization=True)


_NO_CHECKER = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
_NOTHING_ELSE: dict[str, dict[str, Any]] = {"sd15": _NO_CHECKER, "sd21": _NO_CHECKER, "sdxl": {}}


def _pipeline_class(found: Found) -> Any:
    name = read_json(CONFIGS / found.config / "model_index.json")["_class_name"]
    if found.in_channels != 4:
        name = name.replace("Pipeline", "InpaintPipeline")
    return getattr(diffusers, name)


def _write_folder(found: Found, folder: Path, dtype: torch.dtype | None) -> None:
    """File by file, so that no more than one of them is in memory."""
    for name, file in loadable_files(found.path).items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if dtype is None:
            shutil.copyfile(file, target)
        elif file.suffix == ".safetensors":
            with one_sentence(f"The weights in {found.path.name}/{name} cannot be read"):
                weights = load_file(file)
            cast = {key: weight.to(dtype) if weight.is_floating_point() else weight for key, weight in weights.items()}
            save_file(cast, target, metadata={"format": "pt", **read_header(file).metadata})
        elif file.name == "config.json":
            target.write_text(json.dumps(_with_dtype(read_json(file), dtype), indent=2) + "\n")
        else:
            shutil.copyfile(file, target)


def _with_dtype(config: dict[str, Any], dtype: torch.dtype) -> dict[str, Any]:
    """transformers notes the precision in its configs, and takes it from there."""
    name = str(dtype).removeprefix("torch.")
    return {key: name if key in ("dtype", "torch_dtype") else value for key, value in config.items()}


def _size_after(found: Found, dtype: torch.dtype | None) -> int:
    files = [found.path] if found.kind == "file" else list(loadable_files(found.path).values())
    if dtype is None:
        return sum(file.stat().st_size for file in files)
    return dtype.itemsize * sum(read_header(file).parameters for file in files if file.suffix == ".safetensors")
