"""Deletes what a kill left in the picture folder between the disk and the row."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from bot.jobs.queue import JobQueue
from bot.storage.images import ImageStore

_log = logging.getLogger(__name__)

BATCH = 500
"""Files that one statement asks about."""


async def sweep(queue: JobQueue, images: ImageStore) -> None:
    """Delete drafts and files that no job refers to; jobs may be drawn meanwhile.

    A folder of which the database knows nothing at all may belong to another one, and is left alone, unless somebody
    had their pictures erased lately.
    """
    try:
        async with images.changing:
            await asyncio.to_thread(images.delete_drafts)
        names = await asyncio.to_thread(images.names)
        strays = [name for batch in _batches(names) for name in await queue.unused(set(batch))]
        if len(strays) == len(names) and not await queue.erased_lately():
            if names:
                _log.warning("The picture folder may belong to another database; none of its files is touched.")
            return
        for batch in _batches(strays):
            async with images.changing:
                for name in await queue.unused(set(batch)):
                    await asyncio.to_thread(images.delete, name)
        if strays:
            _log.info("Deleted %d pictures and latents that no job refers to.", len(strays))
    except Exception:
        _log.exception("The picture folder could not be swept; the next start tries again.")


def _batches(names: Sequence[str]) -> list[Sequence[str]]:
    return [names[start : start + BATCH] for start in range(0, len(names), BATCH)]
