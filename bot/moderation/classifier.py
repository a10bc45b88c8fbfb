"""The picture classifier as the bot sees it: a process that is asked, and started again when it dies."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import suppress

import msgspec

from bot.errors import NotJudged
from bot.moderation.scoring import LENGTH, frame

_log = logging.getLogger(__name__)

NO_CLASSIFIER = "none"
"""The setting that leaves pictures unjudged."""
PATIENCE = 60.0
"""Seconds one request may take, loading the classifier included."""
TRIES = 2
"""A request is asked again once when the process dies over it."""


class ClassifierProcess:
    """One process, one request at a time; `name` is what `bot.moderation.scoring.load` knows."""

    def __init__(self, name: str, *, patience: float = PATIENCE) -> None:
        self._name = name
        self._patience = patience
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()
        self._trial: asyncio.Task[None] | None = None
        self.works = True
        """False after a request that it died over twice, until one succeeds."""

    @property
    def idle(self) -> bool:
        """Nobody waits for an answer."""
        return not self._turn.locked()

    @property
    def pid(self) -> int | None:
        """None while there is no process: the id of one that has ended may be somebody else's by now."""
        return None if self._process is None or self._process.returncode is not None else self._process.pid

    def start(self) -> None:
        """Start it, or find out whether it works again, in the background."""
        if self._trial is None or self._trial.done():
            self._trial = asyncio.create_task(self._try_out(), name="start the picture classifier")

    async def score(self, pictures: Sequence[bytes]) -> Sequence[float]:
        """From 0 to 1 for each encoded picture. Raises NotJudged."""
        async with self._turn:
            for _ in range(TRIES):
                try:
                    answer = await self._ask(pictures)
                except (OSError, EOFError, msgspec.DecodeError) as error:
                    _log.warning("The picture classifier stopped: %r", error)
                    continue
                self.works = True
                if isinstance(answer, str):
                    _log.error("Pictures could not be judged: %s", answer)
                    raise NotJudged("The pictures could not be judged, so they are not shown.")
                return answer
            self.works = False
        raise NotJudged("The pictures could not be judged, because the bot's picture classifier does not run.")

    async def close(self) -> None:
        if self._trial is not None:
            self._trial.cancel()
            await asyncio.wait([self._trial])
        await self._end()

    async def _try_out(self) -> None:
        try:
            await self.score([])
        except NotJudged as error:
            _log.error("%s", error)
        else:
            _log.info("The picture classifier %s is ready.", self._name)

    async def _ask(self, pictures: Sequence[bytes]) -> list[float] | str:
        """Raises OSError (of which TimeoutError is one) or EOFError when the process did not answer."""
        process = self._process = self._process or await self._started()
        assert process.stdin is not None and process.stdout is not None
        try:
            async with asyncio.timeout(self._patience):
                process.stdin.write(frame(list(pictures)))
                await process.stdin.drain()
                (length,) = LENGTH.unpack(await process.stdout.readexactly(LENGTH.size))
                answer = await process.stdout.readexactly(length)
            return msgspec.msgpack.decode(answer, type=list[float] | str)
        except BaseException:
            await self._end()  # what it may still answer is not what the next one asks
            raise

    async def _started(self) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bot.moderation.scoring", self._name),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None and process.stdout is not None
        with suppress(ProcessLookupError):
            process.kill()
        process.stdin.close()
        with suppress(ConnectionError):
            await process.stdin.wait_closed()
        await process.stdout.read()
        await process.wait()
