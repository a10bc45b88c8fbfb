"""A crowd that presses in one moment is answered before anything else is done: pictures can wait a little."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress

MANY = 10
"""People who wait for their answers at once; of fewer nobody has to wait for long."""
PATIENCE = 1.0
"""Seconds that a crowd may hold up other work, so that it goes on where people press without end."""


class Crowd:
    """Who waits for an answer of the bot."""

    def __init__(self) -> None:
        self._waiting = 0
        self._since = 0.0
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
        if self._waiting <= MANY:
            self._few.set()
        elif not self.here:
            self._few.clear()
            self._since = asyncio.get_running_loop().time()

    @property
    def here(self) -> bool:
        """Many wait."""
        return not self._few.is_set()

    async def answered(self) -> None:
        """Returns as soon as only few wait, or when many have waited for long."""
        with suppress(TimeoutError):
            async with asyncio.timeout_at(self._since + PATIENCE):
                await self._few.wait()
