"""Loading the parts of a diffusers folder, each whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from torch import nn

from t2i.api import CheckpointError
from t2i.checkpoints.detect import Found, components
from t2i.checkpoints.files import read_header, variant, weight_files

_NEEDED = ("unet", "transformer", "vae", "text_encoder", "tokenizer")
"""Beginnings of the names of what a stepped family is made of."""


def load_folder(found: Found, dtype: torch.dtype, vae_dtype: torch.dtype) -> dict[str, Any]:
    """diffusers' components by name, on the CPU and in eval mode, None where the index has null; the autoencoder in
    `vae_dtype`.

    Raises CheckpointError where a part lacks weights or has some of another shape; then nothing stays loaded.
    """
    parts: dict[str, Any] = {name: None for name in found.index if name.startswith(_NEEDED)}
    with quiet(), default_dtype_kept():
        for name, library, kind in components(found):
            if not name.startswith(_NEEDED):
                continue
            folder = found.path / name
            module = {"diffusers": diffusers, "transformers": transformers}.get(library)
            part_class = getattr(module, kind, None)
            if part_class is None:
                raise CheckpointError(f"The {name} of {found.path.name} is a {library}.{kind}, which is not known.")
            if name.startswith("tokenizer"):
                parts[name] = load_tokenizer(part_class, folder)
            else:
                parts[name] = _load_module(part_class, folder, vae_dtype if name == "vae" else dtype)
    return parts


def load_tokenizer(tokenizer_class: type, folder: Path) -> Any:
    with one_sentence(f"The {folder.name} of {folder.parent.name} cannot be read"):
        return tokenizer_class.from_pretrained(folder, local_files_only=True)  # type: ignore[attr-defined]


def _load_module(module_class: Any, folder: Path, dtype: torch.dtype) -> nn.Module:
    files = weight_files(folder)
    for file in files:
        read_header(file)
    problem = f"The {folder.name} of {folder.parent.name} cannot be loaded: its weights do not fit its config.json"
    with one_sentence(problem):
        module, report = module_class.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            variant=variant(files[0]) or None,
            dtype=dtype,
            output_loading_info=True,
        )
    refuse_missing(f"{folder.parent.name}/{folder.name}", sorted(report["missing_keys"]))
    return module.eval().requires_grad_(False)  # type: ignore[no-any-return]


def refuse_missing(shown: str, missing: list[str]) -> None:
    if missing:
        weights = "a weight" if len(missing) == 1 else f"{len(missing)} weights"
        raise CheckpointError(f"{shown} is incomplete: it lacks {weights}, such as {missing[0]}.")


@contextmanager
def one_sentence(problem: str) -> Iterator[None]:
    """Say so where anything fails inside: diffusers and transformers raise nearly everything over damaged files."""
    try:
        yield
    except (CheckpointError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise CheckpointError(f"{problem}.") from error


@contextmanager
def default_dtype_kept() -> Iterator[None]:
    """Both libraries change PyTorch's default dtype while they load, and leave it changed where they fail."""
    before = torch.get_default_dtype()
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def quiet() -> Iterator[None]:
    """Neither library draws progress bars or prints reports inside; what goes wrong is raised."""
    loggings = (diffusers.utils.logging, transformers.utils.logging)
    before = [logging.get_verbosity() for logging in loggings]
    bars = transformers.utils.logging.is_progress_bar_enabled()
    try:
        for logging in loggings:
            logging.set_verbosity(logging.CRITICAL)
        transformers.utils.logging.disable_progress_bar()
        yield
    finally:
        for logging, verbosity in zip(loggings, before, strict=True):
            logging.set_verbosity(verbosity)
        if bars:
            transformers.utils.logging.enable_progress_bar()
