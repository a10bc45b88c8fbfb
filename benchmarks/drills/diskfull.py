"""A disk that takes nothing more for a while: no picture, no row, no log.

The kernel is told to refuse every write by which a file of the bot would grow (RLIMIT_FSIZE), because a file system can
be filled up only by whoever may mount one.
"""

from __future__ import annotations

import asyncio
import random
import resource
from typing import Any

from benchmarks.drills.crowd import Crowd
from benchmarks.drills.report import Outcome
from benchmarks.drills.scene import disturbed, until_ended
from benchmarks.drills.stage import Stage
from benchmarks.gates import Gate


async def diskfull(stage: Stage, rng: random.Random, *, jobs: int, times: int, full: float) -> Outcome:
    """The disk is full `times` times, `full` seconds each."""

    async def fill(crowd: Crowd) -> tuple[dict[str, Any], list[Gate]]:
        for number in range(times):
            _, hard = _limit(stage, 1)
            await asyncio.sleep(full)
            _limit(stage, hard)
            enough = jobs * (number + 1) / (times + 1)
            await until_ended(stage, crowd, enough, 60)
        return {"times_full": times}, []

    return await disturbed(stage, rng, fill, jobs=jobs, begin=0.1)


def _limit(stage: Stage, size: int) -> tuple[int, int]:
    """Set how large a file of the bot may become; what the limits were."""
    assert stage.bot is not None, "the bot ended by itself"
    _, hard = resource.prlimit(stage.bot.pid, resource.RLIMIT_FSIZE)
    return resource.prlimit(stage.bot.pid, resource.RLIMIT_FSIZE, (size, hard))
