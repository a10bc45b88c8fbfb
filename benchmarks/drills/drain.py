"""SIGTERM while jobs are drawn and wait: the bot ends soon, charges nobody, and goes on in its next life."""

from __future__ import annotations

import random
from typing import Any

from benchmarks.drills.crowd import Crowd
from benchmarks.drills.report import Outcome
from benchmarks.drills.scene import disturbed, until_ended
from benchmarks.drills.stage import Stage
from benchmarks.gates import Gate, at_most

LIMIT_SECONDS = 25.0


async def drain(stage: Stage, rng: random.Random, *, jobs: int, stops: int, hung: bool) -> Outcome:
    """`stops` restarts; with `hung` one more whose engine hangs, which takes all the time that jobs are given."""

    async def restart(crowd: Crowd) -> tuple[dict[str, Any], list[Gate]]:
        seconds, codes = [], []
        for number in range(stops + hung):
            enough = crowd.ended + 1
            await until_ended(stage, crowd, enough, 60)
            if number == stops and stage.engine is not None:
                stage.engine.suspend()
            code, took = await stage.stop()
            seconds.append(took)
            codes.append(code)
            await stage.start()
        charged = sum(row.crashes for row in await stage.rows())
        gates = [
            at_most("slowest_stop", max(seconds), LIMIT_SECONDS),
            at_most("charged", charged, 0),
            at_most("bad_exits", sum(map(bool, codes)), 0),
        ]
        return {"slowest_stop": round(max(seconds), 2), "charged": charged, "bad_exits": sum(map(bool, codes))}, gates

    return await disturbed(stage, rng, restart, jobs=jobs, begin=0.1)
