"""What lies in a folder of checkpoints, and how to take something out of it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from t2i.api import CheckpointError, CheckpointInfo, Damaged, LoraInfo, Shelf
from t2i.checkpoints.detect import detect
from t2i.checkpoints.files import delete, manifest_file
from t2i.checkpoints.info import describe
from t2i.checkpoints.registry import EMBEDDED, LORAS, available


def survey(checkpoints_dir: Path | None) -> Shelf:
    """Everything that can be loaded, and why the rest cannot. No weight is read."""
    infos: list[CheckpointInfo] = []
    loras: list[LoraInfo] = []
    damaged: list[Damaged] = []
    for name, path in available(checkpoints_dir).items():
        try:
            # Requests name the folder, whatever the checkpoint calls itself.
            infos.append(msgspec.structs.replace(describe(path), name=name))
        except CheckpointError as error:
            damaged.append(Damaged(name, str(error)))
    for name, file in loras_in(checkpoints_dir).items():
        try:
            loras.append(LoraInfo(name=name, family=detect(file).family, size=file.stat().st_size))
        except (CheckpointError, OSError) as error:
            damaged.append(Damaged(name, str(error)))
    return Shelf(checkpoints=tuple(infos), loras=tuple(loras), damaged=tuple(damaged))


def loras_in(checkpoints_dir: Path | None) -> dict[str, Path]:
    """Names and files."""
    if checkpoints_dir is None:
        return {}
    return {file.stem: file for file in sorted((checkpoints_dir / LORAS).glob("*.safetensors"))}


def remove(name: str, checkpoints_dir: Path, *, lora: bool = False) -> None:
    """Delete a checkpoint or a LoRA with its manifest. Raises CheckpointError; then everything is still there."""
    known = loras_in(checkpoints_dir) if lora else available(checkpoints_dir)
    if name == EMBEDDED and not lora:
        raise CheckpointError("The embedded checkpoint is a part of the program and stays.")
    if name not in known:
        what = "LoRA" if lora else "checkpoint"
        raise CheckpointError(f"There is no {what} {name!r} in {checkpoints_dir}.")
    path = known[name]
    manifest = manifest_file(path)
    # Gone under its name at once, so that nobody ever meets half of it.
    doomed = path.with_name(f".{path.name}.removed")
    try:
        delete(doomed)  # what a kill left of one of the same name
        path.rename(doomed)
        manifest.unlink(missing_ok=True)
        delete(doomed)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be deleted: {error.strerror or error}.") from error
