"""Adding a checkpoint or a LoRA to a folder of checkpoints: checked before it is visible there, hashed as copied."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import msgspec

from t2i.api import CheckpointError
from t2i.checkpoints import hub
from t2i.checkpoints.detect import Found, detect
from t2i.checkpoints.files import (
    MANIFEST,
    Manifest,
    appear,
    list_files,
    loadable_files,
    manifest_file,
    read_manifest,
    require_space,
    sha256,
    verify,
    write_manifest,
)
from t2i.checkpoints.info import describe, licence_of
from t2i.checkpoints.registry import EMBEDDED, LORAS

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def add(
    source: str | Path, checkpoints_dir: Path, name: str | None = None, *, prediction_type: str | None = None
) -> Path:
    """Copy a folder, a file or a model of the hub ("org/name" or "org/name@revision") and return where it is now.

    LoRAs go to the folder "loras". `prediction_type` (epsilon or v_prediction) is for files that do not tell. Raises
    CheckpointError for what cannot be loaded, is damaged, does not fit on the disk, or whose name is taken; then
    nothing is added.
    """
    if prediction_type not in (None, "epsilon", "v_prediction"):
        raise CheckpointError(f"No network predicts {prediction_type!r}; choose epsilon or v_prediction.")
    path, origin = _locate(str(source))
    found = detect(path)
    problems = verify(path)
    if problems:
        raise CheckpointError(problems[0])
    if found.kind != "lora":
        describe(path)
    destination = _destination(found, checkpoints_dir, name or _name_of(origin))
    files = loadable_files(path) if found.kind == "folder" else {path.name: path}
    require_space(checkpoints_dir, sum(file.stat().st_size for file in files.values()))
    with appear(destination) as partial:
        if found.kind == "folder":
            for relative, file in files.items():
                (partial / relative).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, partial / relative)
        else:
            shutil.copyfile(path, partial)
        if found.family != "cascade":  # whose model_index.json has the hashes
            _write_manifest(path, origin, destination, partial, prediction_type)
    return destination


def _locate(source: str) -> tuple[Path, str]:
    """The path of a source, and how the manifest names it: a hub id with its commit, or a name."""
    path = Path(source)
    if path.exists() or not hub.is_hub_id(source):
        return path, path.resolve().name
    snapshot = hub.fetch(source)
    return snapshot.path, f"{snapshot.repository}@{snapshot.revision}"


def _name_of(origin: str) -> str:
    return origin.partition("@")[0].rpartition("/")[2].removesuffix(".safetensors")


def _destination(found: Found, checkpoints_dir: Path, name: str) -> Path:
    if not _NAME.fullmatch(name) or name in (EMBEDDED, LORAS):
        raise CheckpointError(
            f"{name!r} cannot be a name: take letters, digits, dots, dashes and underscores, and neither "
            f"{EMBEDDED!r} nor {LORAS!r}."
        )
    if found.kind == "lora":
        return checkpoints_dir / LORAS / f"{name}.safetensors"
    taken = [checkpoints_dir / name, checkpoints_dir / f"{name}.safetensors"]
    if any(path.exists() for path in taken):
        raise CheckpointError(f"{checkpoints_dir} has a checkpoint {name} already; choose another name or remove it.")
    return taken[0] if found.kind == "folder" else taken[1]


def _write_manifest(path: Path, origin: str, destination: Path, partial: Path, prediction_type: str | None) -> None:
    """What the source's manifest says, or else its model card, with the hashes of what was copied."""
    folder = partial.is_dir()
    hashes = {name if folder else destination.name: sha256(file) for name, file in list_files(partial).items()}
    card = licence_of(path if folder else path.parent)
    before = read_manifest(path) or Manifest(name="", source=origin, licence=card)
    defaults = before.defaults
    if prediction_type is not None:
        defaults = msgspec.structs.replace(defaults, prediction_type=prediction_type)
    manifest = msgspec.structs.replace(before, name=destination.stem, defaults=defaults, files=hashes)
    write_manifest(partial / MANIFEST if folder else manifest_file(destination), manifest)
