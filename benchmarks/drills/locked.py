"""Somebody else holds SQLite's write lock, for longer than the bot waits for it."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from typing import Any

from benchmarks.drills.crowd import Crowd
from benchmarks.drills.report import Outcome
from benchmarks.drills.scene import disturbed
from benchmarks.drills.stage import Stage
from benchmarks.gates import Gate


async def locked(stage: Stage, rng: random.Random, *, jobs: int, held: float) -> Outcome:
    async def hold(crowd: Crowd) -> tuple[dict[str, Any], list[Gate]]:
        writer = sqlite3.connect(stage.data_dir / "imagine.db", isolation_level=None, timeout=30)
        try:
            writer.execute("BEGIN IMMEDIATE")
            await asyncio.sleep(held)
            writer.execute("ROLLBACK")
        finally:
            writer.close()
        return {"held_seconds": held}, []

    return await disturbed(stage, rng, hold, jobs=jobs)
