"""The stage of a drill: a sandbox, the real bot with its engine as processes, and a folder that goes away afterwards.

Only processes that were started here are ever signalled, by their own ids, and none outlives the stage.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
from sqlalchemy import Row, select

from benchmarks.drills import databases
from bot import child
from bot.sandbox.server import Sandbox
from bot.storage.session import Database
from bot.storage.tables import jobs

ROOT = Path(__file__).parents[2]
LOOK = 0.02
"""Seconds between two looks at what somebody waits for."""
EVERYTHING = 1_000_000
"""Messages of a channel: one that the sandbox let go would look as if it had been deleted."""
SETTINGS = {
    "IMAGINE_CHECKPOINT": "tiny",
    "IMAGINE_PROGRESS_INTERVAL": "0.3",
    "OMP_NUM_THREADS": "1",
    # Half precision rounds as the batch has it, by more than a wrong picture may differ.
    "IMAGINE_DTYPE": "float32",
}


class BotEnded(Exception):
    """The bot ended though nobody had asked or killed it."""

    def __init__(self, code: int, log: str) -> None:
        super().__init__(f"the bot ended by itself with exit code {code}:\n{log[-1500:]}")


class Stage:
    """One bot that may be killed, stopped and started at will, in front of one sandbox."""

    def __init__(
        self, folder: Path, sandbox: Sandbox, database_url: str, checkpoints_dir: Path, settings: dict[str, str]
    ) -> None:
        self.folder = folder
        self.data_dir = folder / "data"
        self.sandbox = sandbox
        self.database_url = database_url
        self.checkpoints_dir = checkpoints_dir
        self.references: dict[int, list[bytes]] = {}
        """Pictures of each wish by its number, where they were drawn beforehand."""
        self.settings = settings
        """Further environment variables of the bot."""
        self._log = folder / "bot.log"
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start the bot; returns at once."""
        env = child.environment(self.sandbox.api_base, self.sandbox.token, self.data_dir)
        env |= SETTINGS | {"IMAGINE_CHECKPOINTS_DIR": str(self.checkpoints_dir), "PYTHONPATH": str(ROOT)}
        env |= {"IMAGINE_DATABASE_URL": self.database_url} | self.settings
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "bot", "run", "--with-parent"), env=env, cwd=self.folder, stderr=log
            )

    @property
    def bot(self) -> psutil.Process | None:
        """The bot's process while it runs."""
        if self._process is None or self._process.returncode is not None:
            return None
        return psutil.Process(self._process.pid)

    @property
    def engine(self) -> psutil.Process | None:
        """The engine's process while the bot has one."""
        with suppress(psutil.NoSuchProcess):
            if (bot := self.bot) is not None:
                return next((child for child in bot.children() if "t2i.engine.worker" in child.cmdline()), None)
        return None

    def kill_engine(self) -> bool:
        """kill -9; False when there was none at this moment."""
        with suppress(psutil.NoSuchProcess):
            if (engine := self.engine) is not None:
                engine.kill()
                return True
        return False

    async def kill_bot(self) -> None:
        """kill -9, and wait until the process is gone."""
        assert self._process is not None
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    async def stop(self, patience: float = 40.0) -> tuple[int, float]:
        """SIGTERM; the exit code and the seconds until the process had ended. Raises TimeoutError."""
        assert self._process is not None
        began = time.monotonic()
        if self._process.returncode is None:
            self._process.terminate()
        async with asyncio.timeout(patience):
            code = await self._process.wait()
        return code, time.monotonic() - began

    def log(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    async def rows(self) -> list[Row[Any]]:
        """Every job there ever was, oldest first, as its row."""
        database = Database(self.database_url)
        try:
            async with database.read() as connection:
                return list(await connection.execute(select(jobs).order_by(jobs.c.id)))
        finally:
            await database.close()

    async def until(self, told: Callable[[], bool], seconds: float) -> bool:
        """Wait until `told()` or until the seconds are over; says which. Raises BotEnded."""
        deadline = time.monotonic() + seconds
        while not told():
            if self._process is not None and self._process.returncode is not None:
                raise BotEnded(self._process.returncode, self.log())
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(LOOK)
        return True

    async def close(self) -> None:
        engine = self.engine
        if self.bot is not None:
            await self.kill_bot()
        if engine is not None:  # it ends by itself once the bot is gone, unless it was stopped
            with suppress(psutil.NoSuchProcess):
                engine.kill()


@asynccontextmanager
async def stage(
    database: str = "sqlite", *, checkpoints_dir: Path | None = None, sandbox: Sandbox | None = None, **settings: str
) -> AsyncIterator[Stage]:
    """Set the stage with the tiny checkpoint and no bot yet; `settings` are environment variables of the bot."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="drill-")))
        url = stack.enter_context(databases.opened(database, folder))
        checkpoints_dir = checkpoints_dir or _tiny_checkpoint(folder)
        async with sandbox or Sandbox(rate_limits=False, kept_messages=EVERYTHING) as discord:
            found = Stage(folder, discord, url, checkpoints_dir, settings)
            try:
                yield found
            finally:
                await found.close()


@asynccontextmanager
async def kept_stopped(process: psutil.Process) -> AsyncIterator[None]:
    """Inside the block the process hangs, as long as it lives; SIGSTOP alone ends when the bot has answered a crowd."""

    async def stop_again() -> None:
        with suppress(psutil.NoSuchProcess):
            while True:
                await asyncio.sleep(LOOK)
                process.suspend()

    process.suspend()
    stopping = asyncio.create_task(stop_again())
    try:
        yield
    finally:
        stopping.cancel()
        with suppress(psutil.NoSuchProcess):
            process.resume()


def _tiny_checkpoint(folder: Path) -> Path:
    """A folder with the checkpoint "tiny", built in a process of its own: a drill never imports torch."""
    checkpoints = folder / "checkpoints"
    program = "import sys, pathlib; from t2i.checkpoints import tiny; tiny.build(pathlib.Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", program, checkpoints / "tiny"], check=True, cwd=ROOT)
    return checkpoints
