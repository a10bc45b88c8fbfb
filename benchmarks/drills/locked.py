"""Somebody else holds SQLite's write lock: until the bot is killed over it, then for longer than the bot waits."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from benchmarks.drills.crowd import Crowd
from benchmarks.drills.report import Outcome
from benchmarks.drills.scene import disturbed
from benchmarks.drills.stage import Stage
from benchmarks.gates import Gate, at_least
from bot.sandbox.events import PresenceChanged

KILLED_AFTER = 2.5
"""Seconds of the lock: the bot has told people by then that it is thinking, and has given up on nobody."""

BACK = 30.0
"""Seconds the bot has to come back."""


async def locked(stage: Stage, rng: random.Random, *, jobs: int, held: float) -> Outcome:
    @contextmanager
    def lock() -> Iterator[None]:
        with closing(sqlite3.connect(stage.data_dir / "imagine.db", isolation_level=None, timeout=30)) as writer:
            writer.execute("BEGIN IMMEDIATE")
            yield
            writer.execute("ROLLBACK")

    async def hold(crowd: Crowd) -> tuple[dict[str, Any], list[Gate]]:
        def promises() -> int:
            return len(list((stage.data_dir / "promises").glob("*.json")))

        crowd.allowed = min(jobs, crowd.taken + jobs // 6)
        with lock():
            await asyncio.sleep(KILLED_AFTER)
            await stage.until(lambda: promises() > 0, BACK)  # a busy machine takes longer
            await stage.kill_bot()
        promised = promises()
        connected = asyncio.Event()
        stage.sandbox.world.listen(lambda event: connected.set() if event == PresenceChanged(online=True) else None)
        await stage.start()
        await stage.until(connected.is_set, BACK)
        crowd.allowed = jobs
        with lock():
            await asyncio.sleep(held)
        return {"held_seconds": held, "promised": promised}, [at_least("promised", promised, 1)]

    return await disturbed(stage, rng, hold, jobs=jobs)
