"""Pictures and latents on disk, each file named by the SHA-256 of what is in it."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

from bot.storage import durable


class ImageLost(Exception):
    """A file of the store is missing or damaged."""

    def __init__(self, sha256: str) -> None:
        super().__init__(f"The stored file {sha256} is missing or damaged.")


class ImageStore:
    """A folder of immutable files. A file is either whole and on disk, or not there.

    Hold `changing` while a file is put and its row is committed, and while rows go and their files are deleted;
    otherwise equal pictures of two jobs could lose the file they share.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self.changing = asyncio.Lock()

    def put(self, data: bytes) -> str:
        """Keep `data`, durably, and return its SHA-256 in hex. Raises OSError when the disk refuses."""
        sha256 = hashlib.sha256(data).hexdigest()
        path = self._path(sha256)
        if path.exists() and path.read_bytes() == data:
            return sha256
        durable.write(path, data)
        return sha256

    def read(self, sha256: str) -> bytes:
        """Raises ImageLost rather than give anything but what was put."""
        try:
            data = self._path(sha256).read_bytes()
        except OSError as error:
            raise ImageLost(sha256) from error
        if hashlib.sha256(data).hexdigest() != sha256:
            raise ImageLost(sha256)
        return data

    def size(self, sha256: str) -> int:
        """Bytes; 0 for what is missing."""
        try:
            return self._path(sha256).stat().st_size
        except OSError:
            return 0

    def delete(self, *names: str) -> None:
        for sha256 in names:
            self._path(sha256).unlink(missing_ok=True)

    def names(self) -> list[str]:
        """The SHA-256 of every file there is, by its name."""
        return [path.name for path in self._root.glob("[0-9a-f][0-9a-f]/[0-9a-f]*")]

    def delete_drafts(self) -> None:
        """What a process that was killed had not written to the end. Nothing may be put meanwhile."""
        for draft in self._root.glob(f"*/{durable.DRAFTS}"):
            draft.unlink(missing_ok=True)

    def _path(self, sha256: str) -> Path:
        return self._root / sha256[:2] / sha256
