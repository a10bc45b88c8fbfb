"""A crowd that presses in one moment is answered before anything else is done: pictures can wait a little.

The processes that draw and judge are stopped meanwhile. Niceness leaves them what the bot does not need of its
processors, but memory and caches are shared by all.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

MANY = 10
"""People who wait for their answers at once; of fewer nobody has to wait for long."""
PATIENCE = 1.0
"""Seconds that a crowd may hold up other work, so that it goes on where people press without end."""
STOP_AGAIN = 5.0
"""Seconds after a stop in which there is no other, so that crowd upon crowd takes no more than a fifth of the time."""


class Crowd:
    """Who waits for an answer of the bot."""

    def __init__(self, *processes: Callable[[], int | None]) -> None:
        """`processes`: ids of those that are stopped meanwhile, while there are such."""
        self._processes = processes
        self._stopped: list[int] = []
        self._last_stop = float("-inf")
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
            self._go_on()
        elif not self.here:
            self._few.clear()
            self._since = asyncio.get_running_loop().time()
            self._stop()

    def _stop(self) -> None:
        if self._since < self._last_stop + STOP_AGAIN:
            return
        self._last_stop = self._since
        self._stopped = [pid for process in self._processes if (pid := process()) is not None]
        _send(signal.SIGSTOP, self._stopped)
        asyncio.get_running_loop().call_later(PATIENCE, self._go_on)

    def _go_on(self) -> None:
        _send(signal.SIGCONT, self._stopped)
        self._stopped = []

    @property
    def here(self) -> bool:
        """Many wait."""
        return not self._few.is_set()

    async def answered(self) -> None:
        """Returns as soon as only few wait, or when many have waited for long."""
        with suppress(TimeoutError):
            async with asyncio.timeout_at(self._since + PATIENCE):
                await self._few.wait()


def _send(number: signal.Signals, pids: list[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
