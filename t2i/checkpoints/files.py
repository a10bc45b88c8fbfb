"""The files of a checkpoint: safetensors headers, hashes, and the manifest that says what they should be."""

from __future__ import annotations

import hashlib
import json
import math
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta

from t2i.api import MAX_GUIDANCE_SCALE, MAX_SIDE, MAX_STEPS, SAMPLERS, CheckpointError
from t2i.checkpoints.transfer import Meter, Tell, sha256, silent, total_size

MANIFEST = "t2i.json"
REFERENCE_PICTURES = "references/pictures.webp"
"""What a cascade draws after."""
PICKLE_SUFFIXES = (".ckpt", ".pt", ".pth", ".bin", ".pkl")
_TEXT_SUFFIXES = (".json", ".txt", ".model", ".md")
_TAIL_BYTES = 64 * 2**10
_VARIANT = re.compile(r"(?:\.(\w+))?(?:-\d{5}-of-\d{5})?(?:\.(\w+))?\.safetensors$")


class TensorInfo(NamedTuple):
    dtype: str
    shape: tuple[int, ...]

    @property
    def parameters(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Header:
    """What a safetensors file says of itself."""

    tensors: dict[str, TensorInfo]
    metadata: dict[str, str]

    @property
    def parameters(self) -> int:
        return sum(tensor.parameters for tensor in self.tensors.values())


class Defaults(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a request leaves open, where the checkpoint's own configs say otherwise or nothing."""

    steps: Annotated[int, Meta(ge=1, le=MAX_STEPS)] | None = None
    sampler: Annotated[str, Meta(pattern=f"^({'|'.join(SAMPLERS)})$")] | None = None
    guidance_scale: Annotated[float, Meta(ge=0, le=MAX_GUIDANCE_SCALE)] | None = None
    size: Annotated[int, Meta(ge=8, le=MAX_SIDE)] | None = None
    prediction_type: Literal["epsilon", "v_prediction", "sample"] | None = None


class Manifest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`t2i.json` in a checkpoint's folder, or beside a single file. `files`: sha256 of every file by relative name."""

    name: str
    source: str = ""
    description: str = ""
    licence: str = ""
    defaults: Defaults = Defaults()
    files: dict[str, str] = {}


def read_header(file: Path) -> Header:
    """The header of a safetensors file; no weight is read. Raises CheckpointError for a pickle, another kind of file
    or one that is shorter than its header says."""
    return _parse_header(file, _header_bytes(file))


def read_json(file: Path) -> dict[str, Any]:
    """Raises CheckpointError for a file that is missing or holds no JSON object."""
    shown = f"{file.parent.name}/{file.name}"
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{shown} is missing or cannot be read.") from error
    except ValueError as error:
        raise CheckpointError(f"{shown} is not readable JSON.") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{shown} holds no JSON object.")
    return content


def number(config: Mapping[str, Any], key: str, default: float, *, least: float = 0.0) -> float:
    """A number of a config; null is the default, as in diffusers. Raises CheckpointError for anything else."""
    value = config.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= least:
        owner = config.get("_class_name", "a text encoder")
        raise CheckpointError(f"A config of {owner} has {key} = {value!r}, which cannot be.")
    return value


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of one diffusers component: those without a variant in their names, else the fp16 ones.

    Raises CheckpointError where there are none, where all are pickles, or where a shard is missing.
    """
    shown = f"{folder.parent.name}/{folder.name}"
    by_variant: dict[str, list[Path]] = {}
    for file in sorted(folder.glob("*.safetensors")):
        by_variant.setdefault(variant(file), []).append(file)
    if not by_variant:
        if any(folder.glob("*.bin")):
            raise CheckpointError(f"{shown} has its weights as a pickle only; get the safetensors version of it.")
        raise CheckpointError(f"{shown} has no weights; a safetensors file is needed.")
    files = by_variant.get("") or by_variant.get("fp16") or next(iter(by_variant.values()))
    shards = re.search(r"-of-(\d{5})", files[0].name)
    if shards and len(files) != int(shards[1]):
        raise CheckpointError(f"{shown} is incomplete: it has {len(files)} of {int(shards[1])} weight files.")
    return files


def variant(file: Path) -> str:
    """ "fp16" of model.fp16.safetensors, and "" of model.safetensors."""
    found = _VARIANT.search(file.name)
    return (found[1] or found[2] or "") if found else ""


def list_files(path: Path) -> dict[str, Path]:
    """Every file of a checkpoint by its relative name, except the manifest and hidden ones."""
    if path.is_file():
        return {path.name: path}
    files = {file.relative_to(path).as_posix(): file for file in sorted(path.rglob("*")) if file.is_file()}
    return {name: file for name, file in files.items() if name != MANIFEST and not re.search(r"(^|/)\.", name)}


def loadable_files(folder: Path) -> dict[str, Path]:
    """What of a diffusers folder is needed to load it, by relative name: no pickles, no second variant."""
    files = {name: file for name, file in list_files(folder).items() if file.suffix in _TEXT_SUFFIXES}
    if (pictures := folder / REFERENCE_PICTURES).is_file():
        files[REFERENCE_PICTURES] = pictures
    for part in sorted({file.parent for file in folder.glob("*/*.safetensors")}):
        files |= {file.relative_to(folder).as_posix(): file for file in weight_files(part)}
    return {name: file for name, file in files.items() if not name.endswith(".bin.index.json")}


@contextmanager
def appear(destination: Path) -> Iterator[Path]:
    """A path to write to beside `destination`, which becomes it at the end, or vanishes where that is not reached.

    Raises CheckpointError where there is something already, or where writing fails.
    """
    if destination.exists():
        raise CheckpointError(f"{destination} is there already; choose another name or remove it.")
    partial = destination.with_name(f".{destination.name}.partial")
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        delete(partial)
        yield partial
        partial.rename(destination)
    except OSError as error:
        raise CheckpointError(f"{destination} cannot be written: {error.strerror or error}.") from error
    finally:
        delete(partial)


def require_space(folder: Path, needed: int) -> None:
    """Raises CheckpointError where the disk of a folder, which need not be there yet, has less than that many bytes."""
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.is_dir())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise CheckpointError(f"{needed / 1e9:.1f} GB are needed in {folder}, and {free / 1e9:.1f} GB are free.")


def identity(path: Path) -> str:
    """A digest that tells checkpoints apart: of the hashes in the manifest, else, because hashing gigabytes takes long,
    of names, sizes, safetensors headers and the ends of the files."""
    manifest = read_manifest(path)
    if manifest is not None and manifest.files:
        return hashlib.sha256(json.dumps(sorted(manifest.files.values())).encode()).hexdigest()
    digest = hashlib.sha256()
    for name, file in list_files(path).items():
        size = file.stat().st_size
        digest.update(f"{name}\0{size}\0".encode())
        if file.suffix == ".safetensors":
            digest.update(_header_bytes(file))
        with file.open("rb") as stream:
            stream.seek(max(0, size - _TAIL_BYTES))
            digest.update(stream.read())
    return digest.hexdigest()


def manifest_file(path: Path) -> Path:
    return path / MANIFEST if path.is_dir() else path.with_suffix(f".{MANIFEST}")


def read_manifest(path: Path) -> Manifest | None:
    """None where there is none. Raises CheckpointError for one that cannot be read."""
    file = manifest_file(path)
    if not file.is_file():
        return None
    try:
        return msgspec.json.decode(file.read_bytes(), type=Manifest)
    except (OSError, msgspec.MsgspecError) as error:
        raise CheckpointError(f"The manifest {file.name} of {path.name} cannot be read: {error}.") from error


def write_manifest(file: Path, manifest: Manifest) -> None:
    file.write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")


def verify(path: Path, tell: Tell = silent) -> list[str]:
    """One sentence for everything that is wrong with the files of a checkpoint; nothing is loaded."""
    return [*_headers_that_lie(path), *_files_that_changed(path, tell)]


def _headers_that_lie(path: Path) -> Iterator[str]:
    for name, file in list_files(path).items():
        if file.suffix == ".safetensors":
            try:
                read_header(file)
            except CheckpointError as error:
                yield str(error).replace(file.name, name, 1)


def _files_that_changed(path: Path, tell: Tell) -> Iterator[str]:
    try:
        manifest = read_manifest(path)
        expected = manifest.files if manifest else _cascade_files(path)
    except CheckpointError as error:
        yield str(error)
        return
    there = list_files(path)
    meter = Meter(tell, "checking", total_size({name: there[name] for name in expected if name in there}))
    for name, digest in expected.items():
        if name not in there:
            yield f"{path.name} is incomplete: {name} is missing."
        elif sha256(there[name], meter) != digest:
            yield f"{path.name} is damaged: {name} is not the file that was saved."
    if expected:
        for name in there.keys() - expected.keys() - {"model_index.json"}:
            if name.endswith(".safetensors"):
                yield f"{path.name} holds {name}, which its manifest does not know."


def _cascade_files(path: Path) -> dict[str, str]:
    if not path.is_dir():
        return {}
    files: dict[str, str] = read_json(path / "model_index.json").get("files", {})
    return files


def delete(path: Path) -> None:
    """A file, a folder with all that is in it, or nothing."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _header_bytes(file: Path) -> bytes:
    if file.suffix.lower() in PICKLE_SUFFIXES:
        raise _pickle(file)
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            start = stream.read(9)
            length = int.from_bytes(start[:8], "little")
            if start[:4] == b"PK\x03\x04" or (start[:1] == b"\x80" and start[1:2] <= b"\x05" and start[8:] != b"{"):
                raise _pickle(file)
            if start[8:] != b"{":
                raise CheckpointError(f"{file.name} is not a safetensors file.")
            if length > size - 8:
                raise CheckpointError(f"{file.name} is truncated: it ends within its header.")
            return b"{" + stream.read(length - 1)
    except OSError as error:
        raise CheckpointError(f"{file.name} cannot be read: {error.strerror}.") from error


def _parse_header(file: Path, header: bytes) -> Header:
    try:
        entries = json.loads(header)
        metadata = entries.pop("__metadata__", {})
        tensors = {name: TensorInfo(entry["dtype"], tuple(entry["shape"])) for name, entry in entries.items()}
        end = max((entry["data_offsets"][1] for entry in entries.values()), default=0)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise CheckpointError(f"{file.name} is not a safetensors file: its header cannot be read.") from error
    expected, size = 8 + len(header) + end, file.stat().st_size
    if size < expected:
        raise CheckpointError(f"{file.name} is truncated: it has {size:,} of {expected:,} bytes.")
    if size > expected:
        raise CheckpointError(f"{file.name} is damaged: it has {size:,} bytes where its header says {expected:,}.")
    return Header(tensors, metadata)


def _pickle(file: Path) -> CheckpointError:
    return CheckpointError(
        f"{file.name} is a pickle, which can run any code when it is opened; get the safetensors version of it."
    )
