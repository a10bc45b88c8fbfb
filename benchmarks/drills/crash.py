"""kill -9 of the bot, of its engine and of both at random moments, while people go on asking for pictures."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter

from benchmarks.drills.crowd import Crowd
from benchmarks.drills.report import Outcome
from benchmarks.drills.stage import Stage
from benchmarks.drills.verdict import judge

ENGINE_KILLS = 2
"""Of one life of the bot: its engine rests longer after every crash, and 50 such rests would take a day."""
QUIET = 30.0
"""Seconds without any job ending after which the next blow falls all the same."""
PATIENCE = 240.0
"""Seconds that everything has to end once the blows are over."""


async def crash(stage: Stage, rng: random.Random, *, jobs: int, kills: int) -> Outcome:
    crowd = Crowd(stage.sandbox, rng, jobs=jobs)
    share = jobs / (kills + 1)
    struck: Counter[str] = Counter()
    began = time.monotonic()
    await stage.start()
    asking = asyncio.create_task(crowd.ask())
    engine_kills = 0
    for number in range(kills):
        crowd.allowed = round(share * (number + 2))
        enough = crowd.ended + rng.uniform(0, share * 0.8)
        await stage.until(lambda enough=enough: crowd.ended >= enough, QUIET)  # type: ignore[misc]
        await asyncio.sleep(rng.uniform(0, 0.5))
        blow = rng.choice(("bot", "engine", "both")) if engine_kills < ENGINE_KILLS else rng.choice(("bot", "both"))
        if blow != "bot":
            stage.kill_engine()
        if blow == "engine":
            engine_kills += 1
        else:
            await stage.kill_bot()
            engine_kills = 0
            await asyncio.sleep(rng.uniform(0, 0.5))
            await stage.start()
        struck[blow] += 1
    crowd.allowed = jobs
    await stage.until(lambda: crowd.satisfied, PATIENCE)
    asking.cancel()
    code, stopping = await stage.stop()
    seconds = time.monotonic() - began
    verdict = await judge(stage, crowd)
    figures = verdict.figures() | {
        "kills": kills,
        "struck": dict(struck),
        "exit_code": code,
        "stop_seconds": round(stopping, 1),
        "drill_seconds": round(seconds, 1),
    }
    return Outcome(figures, verdict.gates())
