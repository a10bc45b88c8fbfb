"""Adding a checkpoint or a LoRA to a folder of checkpoints: checked before it is visible there, hashed as copied."""

from __future__ import annotations

import re
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
    verify,
    write_manifest,
)
from t2i.checkpoints.info import describe, licence_of
from t2i.checkpoints.registry import EMBEDDED, LORAS
from t2i.checkpoints.transfer import Meter, Tell, copy, sha256, silent, total_size

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def add(
    source: str | Path,
    checkpoints_dir: Path,
    name: str | None = None,
    *,
    prediction_type: str | None = None,
    anywhere: bool = True,
    tell: Tell = silent,
) -> Path:
    """Copy a folder, a file or a model of the hub ("org/name" or "org/name@revision") and return where it is now.

    What lies in the folder of checkpoints already, by its path or its name there, is given a manifest where it is.
    With `anywhere` false, no other path is looked at. LoRAs go to the folder "loras". `prediction_type` (epsilon or
    v_prediction) is for files that do not tell. Raises CheckpointError for what cannot be loaded, is damaged, does not
    fit on the disk, or whose name is taken; then nothing is added.
    """
    if prediction_type not in (None, "epsilon", "v_prediction"):
        raise CheckpointError(f"No network predicts {prediction_type!r}; choose epsilon or v_prediction.")
    path, origin = _locate(str(source), checkpoints_dir, tell, anywhere=anywhere)
    found = detect(path)
    problems = verify(path, tell)
    if problems:
        raise CheckpointError(problems[0])
    if found.kind != "lora":
        describe(path)
    there = path.absolute().parent == (checkpoints_dir / LORAS if found.kind == "lora" else checkpoints_dir).absolute()
    if there and name in (None, _called(path)):
        _adopt(found, origin, prediction_type, tell)
        return path
    destination = _destination(found, checkpoints_dir, name or _name_of(origin))
    files = loadable_files(path) if found.kind == "folder" else {path.name: path}
    require_space(checkpoints_dir, total_size(files))
    with appear(destination) as partial:
        meter = Meter(tell, "copying", total_size(files))
        if found.kind == "folder":
            for relative, file in files.items():
                (partial / relative).parent.mkdir(parents=True, exist_ok=True)
                copy(file, partial / relative, meter)
        else:
            copy(path, partial, meter)
        if found.family != "cascade":  # whose model_index.json has the hashes
            manifest = _manifest(path, origin, destination, partial, prediction_type=prediction_type, tell=tell)
            write_manifest(partial / MANIFEST if partial.is_dir() else manifest_file(destination), manifest)
    return destination


def _locate(source: str, checkpoints_dir: Path, tell: Tell, *, anywhere: bool) -> tuple[Path, str]:
    """The path of a source, and how the manifest names it: a hub id with its commit, or a name."""
    loras = checkpoints_dir / LORAS
    places = [folder / name for folder in (checkpoints_dir, loras) for name in (source, f"{source}.safetensors")]
    if not anywhere and not (_NAME.fullmatch(source) or hub.is_hub_id(source)):
        raise CheckpointError(f"{source!r} is neither the name of something in the folder of checkpoints nor a hub id.")
    candidates = [Path(source), *places] if anywhere else places if _NAME.fullmatch(source) else []
    path = next((path for path in candidates if path.exists()), None)
    if path is not None:
        return path, path.resolve().name
    if not hub.is_hub_id(source):
        raise CheckpointError(f"There is no file or folder {source}.")
    snapshot = hub.fetch(source, tell)
    return snapshot.path, f"{snapshot.repository}@{snapshot.revision}"


def _adopt(found: Found, origin: str, prediction_type: str | None, tell: Tell) -> None:
    """Give a checkpoint that somebody put into the folder a manifest, so that its files are known by their hashes."""
    path = found.path
    if found.family == "cascade" or (read_manifest(path) and prediction_type is None):
        return
    try:
        write_manifest(
            manifest_file(path), _manifest(path, origin, path, path, prediction_type=prediction_type, tell=tell)
        )
    except OSError as error:
        raise CheckpointError(f"{manifest_file(path)} cannot be written: {error.strerror or error}.") from error


def _name_of(origin: str) -> str:
    return origin.partition("@")[0].rpartition("/")[2].removesuffix(".safetensors")


def _called(path: Path) -> str:
    return path.name.removesuffix(".safetensors")


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


def _manifest(
    path: Path, origin: str, destination: Path, partial: Path, *, prediction_type: str | None, tell: Tell
) -> Manifest:
    """What the source's manifest says, or else its model card, with the hashes of what was copied."""
    folder = partial.is_dir()
    copied = list_files(partial)
    meter = Meter(tell, "hashing", total_size(copied))
    hashes = {name if folder else destination.name: sha256(file, meter) for name, file in copied.items()}
    card = licence_of(path if folder else path.parent)
    before = read_manifest(path) or Manifest(name="", source=origin, licence=card)
    defaults = before.defaults
    if prediction_type is not None:
        defaults = msgspec.structs.replace(defaults, prediction_type=prediction_type)
    return msgspec.structs.replace(before, name=_called(destination), defaults=defaults, files=hashes)
