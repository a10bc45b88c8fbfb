"""Reading and copying large files, while somebody is told how far that is."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from t2i.api import Stage

CHUNK = 4 * 2**20
"""Bytes."""

Tell = Callable[[Stage, int, int], None]
"""Hears what is being done, and how many bytes of how many are."""


def silent(stage: Stage, done: int, total: int) -> None:
    """Tells nobody."""


class Meter:
    """Counts the bytes of one stage."""

    def __init__(self, tell: Tell, stage: Stage, total: int) -> None:
        self._tell = tell
        self._stage = stage
        self._total = total
        self._done = 0
        tell(stage, 0, total)

    def count(self, size: int) -> None:
        self._done += size
        self._tell(self._stage, self._done, self._total)


def sha256(file: Path, meter: Meter | None = None) -> str:
    digest = hashlib.sha256()
    with file.open("rb", buffering=0) as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
            if meter:
                meter.count(len(chunk))
    return digest.hexdigest()


def copy(source: Path, target: Path, meter: Meter) -> None:
    with source.open("rb", buffering=0) as reading, target.open("wb", buffering=0) as writing:
        while chunk := reading.read(CHUNK):
            writing.write(chunk)
            meter.count(len(chunk))


def total_size(files: dict[str, Path]) -> int:
    """Bytes."""
    return sum(file.stat().st_size for file in files.values())
