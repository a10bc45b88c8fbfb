"""A crowd that presses in one moment is answered before anything else is done: pictures can wait a little."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress

MANY = 10
"""People who wait for their answers at once; of fewer nobody has to wait for long."""
PATIENCE = 0.5
"""Seconds that other work waits at most, each time, so that it goes on under any load."""


class Crowd:
    """Who waits for an answer of the bot."""

    def __init__(self) -> None:
        self._waiting = 0
        self._few = asyncio.Event()
        self._few.set()

    @contextmanager
    def one_more(self) -> Iterator[None]:
        """Somebody waits inside the block."""
        self._count(1)
        try:
            yield
        finally:
            self._count(-1)

    def _count(self, change: int) -> None:
        self._waiting += change
        if self._waiting > MANY:
            self._few.clear()
        else:
            self._few.set()

    @property
    def here(self) -> bool:
        """Many wait."""
        return not self._few.is_set()

    async def answered(self) -> None:
        """Returns as soon as only few wait, or when others have waited long enough for them."""
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await self._few.wait()
