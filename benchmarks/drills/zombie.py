"""The engine's process stops in the middle of its work without ending (SIGSTOP)."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

from benchmarks.drills.crowd import Crowd
from benchmarks.drills.report import Outcome
from benchmarks.drills.scene import disturbed
from benchmarks.drills.stage import Stage, kept_stopped
from benchmarks.gates import Gate, at_most

REPLACED_SECONDS = 60.0
"""Until another engine draws: 15 s of silence, and a start."""


async def zombie(stage: Stage, rng: random.Random, *, jobs: int, wake: float | None) -> Outcome:
    """With `wake` the engine goes on after so many seconds; otherwise the bot has to find out and replace it."""

    async def stop(crowd: Crowd) -> tuple[dict[str, Any], list[Gate]]:
        engine = stage.engine
        assert engine is not None
        before, began = crowd.ended, time.monotonic()

        def replaced() -> bool:
            return stage.engine not in (engine, None) and crowd.ended > before

        async with kept_stopped(engine):
            if wake is not None:
                await asyncio.sleep(wake)
            else:
                await stage.until(replaced, 2 * REPLACED_SECONDS)
        seconds = time.monotonic() - began
        return {"stopped_seconds": round(seconds, 1)}, [at_most("stopped_seconds", seconds, REPLACED_SECONDS)]

    return await disturbed(stage, rng, stop, jobs=jobs)
