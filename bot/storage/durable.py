"""Files that are either whole and on the disk, or not there."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

DRAFTS = ".*.tmp"
"""What a process that was killed had not written to the end, as a pattern of its name."""


def write(path: Path, data: bytes) -> None:
    """Returns once `path` and the folder it lies in survive a power cut. Raises OSError when the disk refuses."""
    if not path.parent.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        _sync_folder(path.parent.parent)
    draft = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with draft.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    # The rename itself is only durable once the folder is.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
