"""What most drills have in common: people ask, trouble comes while jobs are drawn, and in the end all is counted."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

from benchmarks.drills.crowd import Crowd
from benchmarks.drills.report import Outcome
from benchmarks.drills.stage import Stage
from benchmarks.drills.verdict import judge
from benchmarks.gates import Gate

PATIENCE = 240.0
"""Seconds that everything has to end once the trouble is over."""
LOOK = 0.5
"""Seconds between two looks at the database."""

Trouble = Callable[[Crowd], Awaitable[tuple[dict[str, Any], list[Gate]]]]
"""Makes trouble, ends it, and says what it measured meanwhile."""


async def disturbed(stage: Stage, rng: random.Random, trouble: Trouble, *, jobs: int, begin: float = 0.2) -> Outcome:
    """`trouble` begins when the share `begin` of the jobs has ended; half of them are asked for only then."""
    crowd = Crowd(stage.sandbox, rng, jobs=jobs)
    crowd.allowed = jobs // 2
    began = time.monotonic()
    await stage.start()
    asking = asyncio.create_task(crowd.ask())
    await until_ended(stage, crowd, begin * jobs, PATIENCE)
    crowd.allowed = jobs
    figures, gates = await trouble(crowd)
    over = time.monotonic()
    await stage.until(lambda: crowd.satisfied, PATIENCE)
    await _written(stage)
    settled = time.monotonic() - over
    asking.cancel()
    code, stopping = await stage.stop()
    seconds = time.monotonic() - began
    verdict = await judge(stage, crowd)
    figures = verdict.figures() | {
        **figures,
        "settled_seconds": round(settled, 1),
        "exit_code": code,
        "stop_seconds": round(stopping, 1),
        "drill_seconds": round(seconds, 1),
    }
    return Outcome(figures, [*verdict.gates(), *gates])


async def until_ended(stage: Stage, crowd: Crowd, jobs: float, seconds: float) -> None:
    """Until so many jobs have ended, or the seconds are over."""
    await stage.until(lambda: crowd.ended >= jobs, seconds)


async def _written(stage: Stage) -> None:
    """Until every row says that its message shows how the job ended."""
    for _ in range(int(PATIENCE / LOOK)):
        if all(row.shown_at for row in await stage.rows()):
            return
        await asyncio.sleep(LOOK)
