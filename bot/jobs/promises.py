"""What people were told is being taken in before the database had it: a deferred answer is a promise.

Discord waits 3 s for an answer, and a commit may take longer. So the job is written to a small file before the answer
is deferred, and submitted again by the next start if a kill came before its commit.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec

from bot.jobs.model import NewJob
from bot.storage import durable

_log = logging.getLogger(__name__)


class Promises:
    """One file for each, named by its interaction, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @asynccontextmanager
    async def kept(self, new: NewJob) -> AsyncIterator[None]:
        """On the disk while the block runs; afterwards too, if it was cut short.

        A disk that refuses the file leaves the promise to chance, which is better than no answer.
        """
        try:
            await asyncio.to_thread(durable.write, self._path(new), msgspec.json.encode(new))
        except OSError as error:
            _log.warning("Interaction %d is deferred without a file: %s", new.interaction_id, error)
        yield
        self.forget(new)

    def all(self) -> list[NewJob]:
        """What a kill left, oldest first, as interactions count up."""
        for draft in self._folder.glob(durable.DRAFTS):  # promised to nobody yet
            draft.unlink(missing_ok=True)
        found = []
        for path in sorted(self._folder.glob("*.json"), key=lambda path: (len(path.name), path.name)):
            try:
                found.append(msgspec.json.decode(path.read_bytes(), type=NewJob))
            except (OSError, msgspec.MsgspecError):
                _log.warning("The file %s cannot be read and is deleted.", path)
                path.unlink(missing_ok=True)
        return found

    def forget(self, new: NewJob) -> None:
        """It was taken in, or taken back. A file that stays does no harm: the same interaction is the same job."""
        with suppress(OSError):
            self._path(new).unlink()

    def _path(self, new: NewJob) -> Path:
        return self._folder / f"{new.interaction_id}.json"
