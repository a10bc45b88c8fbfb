"""kill -9 of the bot, of its engine and of both at random moments, while people go on asking for pictures."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

from benchmarks.drills.crowd import Crowd
from benchmarks.drills.report import Outcome
from benchmarks.drills.scene import disturbed, until_ended
from benchmarks.drills.stage import Stage
from benchmarks.gates import Gate

ENGINE_KILLS = 2
"""Of one life of the bot: its engine rests longer after every crash, and 50 such rests would take a day."""
QUIET = 30.0
"""Seconds without any job ending after which the next blow falls all the same."""


async def crash(stage: Stage, rng: random.Random, *, jobs: int, kills: int) -> Outcome:
    share = jobs / (kills + 1)

    async def strike(crowd: Crowd) -> tuple[dict[str, Any], list[Gate]]:
        struck: Counter[str] = Counter()
        engine_kills = 0
        for number in range(kills):
            crowd.allowed = round(share * (number + 2))
            enough = crowd.ended + rng.uniform(0, share * 0.8)
            await until_ended(stage, crowd, enough, QUIET)
            await asyncio.sleep(rng.uniform(0, 0.5))
            blow = rng.choice(("bot", "engine", "both") if engine_kills < ENGINE_KILLS else ("bot", "both"))
            struck[blow] += 1
            if blow != "bot":
                stage.kill_engine()
            if blow == "engine":
                engine_kills += 1
                continue
            await stage.kill_bot()
            engine_kills = 0
            await asyncio.sleep(rng.uniform(0, 0.5))
            await stage.start()
        crowd.allowed = jobs
        return {"kills": kills, **struck}, []

    return await disturbed(stage, rng, strike, jobs=jobs, begin=0)
