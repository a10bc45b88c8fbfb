"""Work that is looked for again and again, as rows say what is left to do, whatever crashed in between."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

log = logging.getLogger(__name__)


class Rounds:
    """Calls `_look`, which a subclass defines, after each pause that it asks for, or as soon as it is woken."""

    def __init__(self, name: str, *, after_failure: float) -> None:
        """`after_failure` is the pause, in seconds, after a look that raised what nobody foresaw."""
        self._name = name
        self._after_failure = after_failure
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._forever(), name=self._name)

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def wake(self) -> None:
        """There is something to do."""
        self._woken.set()

    async def _look(self) -> float:
        """Do what there is to do; returns the seconds until the next look."""
        raise NotImplementedError

    async def _forever(self) -> None:
        while True:
            self._woken.clear()
            pause = self._after_failure
            try:
                pause = await self._look()
            except Exception:
                log.exception("The round %r failed; it is made again in %g s.", self._name, pause)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._woken.wait()
