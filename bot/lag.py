"""How late the event loop comes to what is due: while it stands still, nobody is answered."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

log = logging.getLogger(__name__)

LOOK = 0.02
"""Seconds between two looks."""
LONG = 1.0
"""Seconds late that are worth a warning."""


@asynccontextmanager
async def watched_loop() -> AsyncIterator[None]:
    """Warn of every long standstill inside the block and, when it ends, say how long the longest was."""
    loop = asyncio.get_running_loop()
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            due = loop.time() + LOOK
            await asyncio.sleep(LOOK)
            late = loop.time() - due
            longest = max(longest, late)
            if late > LONG:
                log.warning("The event loop stood still for %.2f s.", late)

    watching = asyncio.create_task(watch(), name="watch the event loop")
    try:
        yield
    finally:
        watching.cancel()
        log.info("The event loop was late by %.0f ms at most.", 1000 * longest)
