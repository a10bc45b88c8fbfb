"""The real bot as a child process beside a sandbox, kept alive as long as the sandbox."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

log = logging.getLogger(__name__)

RESTART_PAUSES = (1.0, 2.0, 5.0, 10.0)
"""Seconds before the first, second, ... restart; after the last one the bot stays down."""

STOP_SECONDS = 30.0
"""How long the bot may take to stop, which is more than it gives its jobs."""

DELIBERATE = (0, 2, 3)
"""Exit codes that say that starting again would end the same way."""

_PR_SET_PDEATHSIG = 1


class BotEnded(Exception):
    """The bot process ended for good; `code` is its exit code."""

    def __init__(self, code: int) -> None:
        super().__init__(f"The bot process ended with exit code {code}.")
        self.code = code


def environment(api_base: str, token: str, data_dir: Path) -> dict[str, str]:
    """This process's environment, turned away from the real Discord and from the operator's own database."""
    # The rate limits are the sandbox's own and the embedded checkpoint is quick, so progress can be watched closely.
    lively = {"IMAGINE_PROGRESS_INTERVAL": "0.3"}
    return (lively | os.environ) | {
        "IMAGINE_DISCORD_API_BASE": api_base,
        "IMAGINE_DISCORD_TOKEN": token,
        "IMAGINE_DATA_DIR": str(data_dir),
        "IMAGINE_DATABASE_URL": "",
    }


@asynccontextmanager
async def running(env: Mapping[str, str]) -> AsyncIterator[Child]:
    """The bot, started again when it crashes."""
    child = Child(env)
    try:
        yield child
    finally:
        child.ended.cancel()
        with suppress(asyncio.CancelledError, BotEnded):
            await child.ended


class Child:
    """The bot's process, one life after the other. `ended` only ends, by raising BotEnded, when it is down for good."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env
        self._process: asyncio.subprocess.Process | None = None
        self._killed = False
        self.ended: asyncio.Task[None] = asyncio.create_task(self._keep_alive(), name="bot process")

    def kill(self) -> None:
        """End this life as a crash would; the next one begins at once, as it was wanted."""
        if self._process is not None and self._process.returncode is None:
            self._killed = True
            self._process.kill()

    async def _keep_alive(self) -> None:
        for pause in (*RESTART_PAUSES, None):
            code = await self._live()
            while self._killed:
                self._killed = False
                code = await self._live()
            if code in DELIBERATE or pause is None:
                raise BotEnded(code)
            log.warning("The bot process ended with exit code %d and is started again in %g s.", code, pause)
            await asyncio.sleep(pause)

    async def _live(self) -> int:
        """One life of the process; returns its exit code."""
        # A session of its own, because Ctrl-C is for the parent, which then asks the bot to stop.
        self._process = process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bot", "run", "--with-parent", env=self._env, start_new_session=True
        )
        try:
            return await process.wait()
        finally:
            if process.returncode is None:
                await _stop(process)


async def _stop(process: asyncio.subprocess.Process) -> None:
    process.terminate()
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def end_with_parent(number: signal.Signals = signal.SIGTERM) -> None:
    """Have Linux send this process a signal when the one that started it ends, however it ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)
