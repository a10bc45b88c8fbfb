"""Checkpoints on the Hugging Face hub, from its local cache where they are there already."""

from __future__ import annotations

import re
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from t2i.api import CheckpointError
from t2i.checkpoints.detect import detect
from t2i.checkpoints.files import REFERENCE_PICTURES, require_space, variant
from t2i.checkpoints.transfer import Tell, silent

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?")
WATCH_SECONDS = 0.5
_TEXT_SUFFIXES = (".json", ".txt", ".model")


class Snapshot(NamedTuple):
    """`path` is a folder with a model_index.json or a single file; `revision` the commit it is from."""

    path: Path
    repository: str
    revision: str


def is_hub_id(text: str) -> bool:
    """Whether this reads as "org/name" or "org/name@revision"."""
    return _HUB_ID.fullmatch(text) is not None


def fetch(hub_id: str, tell: Tell = silent) -> Snapshot:
    """From the cache, else downloaded; what an earlier try has left is not downloaded again.

    Raises CheckpointError where the hub knows no such model, cannot be reached, or where it cannot be loaded."""
    repository, _, revision = hub_id.partition("@")
    return _cached(repository, revision) or _download(repository, revision, tell)


def wanted_files(sizes: Mapping[str, int], repository: str) -> list[str]:
    """Of a repository's files those to download: of each part one variant of the weights, as safetensors."""
    if "model_index.json" not in sizes:
        files = [name for name in sizes if name.endswith(".safetensors") and "/" not in name]
        if len(files) != 1:
            raise CheckpointError(
                f"{repository} has no model_index.json and {len(files)} safetensors files; download the one you mean."
            )
        return [*files, *(name for name in sizes if name == "README.md")]
    kept = [name for name in sizes if name in ("model_index.json", "README.md")]
    weights: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name in sizes:
        path = PurePosixPath(name)
        if len(path.parts) != 2:
            continue
        if path.suffix == ".safetensors":
            weights[path.parts[0]][variant(Path(name))].append(name)
        elif name == REFERENCE_PICTURES or (path.suffix in _TEXT_SUFFIXES and not name.endswith(".bin.index.json")):
            kept.append(name)
    for variants in weights.values():
        kept += variants.get("") or variants.get("fp16") or next(iter(variants.values()))
    return kept


def _cached(repository: str, revision: str) -> Snapshot | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        # Only `detect` knows which of a repository's many files are needed.
        needed = ["model_index.json"]
        snapshot = snapshot_download(
            repository, revision=revision or None, local_files_only=True, allow_patterns=needed
        )
        folder = Path(snapshot)
        path = _entry(folder)
        detect(path)
    except (OSError, HFValidationError, CheckpointError):
        return None  # absent or incomplete
    return Snapshot(path, repository, folder.name)


def _download(repository: str, revision: str, tell: Tell) -> Snapshot:
    from huggingface_hub import HfApi, constants, snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        info = HfApi().model_info(repository, revision=revision or None, files_metadata=True)
        sizes = {sibling.rfilename: sibling.size or 0 for sibling in info.siblings or ()}
        wanted = wanted_files(sizes, repository)
        cache = Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"
        total = sum(sizes[name] for name in wanted)
        require_space(cache, total - _size_of(cache / "blobs"))
        with _watched(cache / "blobs", total, tell):
            folder = Path(snapshot_download(repository, revision=revision or None, allow_patterns=wanted))
    except CheckpointError:
        raise
    except GatedRepoError as error:
        raise CheckpointError(
            f"{repository} is given only to those who agreed to its terms: agree on its page, then `hf auth login`."
        ) from error
    except RepositoryNotFoundError as error:
        raise CheckpointError(
            f"There is no folder {repository}, and no public model of that name on the hub."
        ) from error
    except RevisionNotFoundError as error:
        raise CheckpointError(f"The model {repository} has no revision {revision!r}.") from error
    except Exception as error:  # the hub's client raises its HTTP library's own errors
        raise CheckpointError(
            f"There is no folder {repository}, no complete model of that name in the hub's cache, "
            "and the hub cannot be reached."
        ) from error
    return Snapshot(_entry(folder), repository, folder.name)


@contextmanager
def _watched(blobs: Path, total: int, tell: Tell) -> Iterator[None]:
    """Tell how many bytes have come, as seen on the disk: the hub's client says so only to bars of its own."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(WATCH_SECONDS):
            tell("downloading", min(_size_of(blobs), total), total)

    tell("downloading", min(_size_of(blobs), total), total)
    watcher = threading.Thread(target=watch, name="download watcher", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def _size_of(folder: Path) -> int:
    """Bytes of the files in a folder, which may change meanwhile or not be there."""
    size = 0
    with suppress(OSError):
        for file in folder.iterdir():
            with suppress(OSError):
                size += file.stat().st_size
    return size


def _entry(folder: Path) -> Path:
    if (folder / "model_index.json").is_file():
        return folder
    files = sorted(folder.glob("*.safetensors"))
    if len(files) != 1:
        raise CheckpointError(f"{folder.name} has no model_index.json.")
    return files[0]
