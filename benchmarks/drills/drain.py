"""SIGTERM while jobs are drawn and wait: the bot ends soon, charges nobody, and goes on in its next life."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack
from typing import Any

from benchmarks.drills.crowd import Crowd
from benchmarks.drills.report import Outcome
from benchmarks.drills.scene import disturbed, until_ended
from benchmarks.drills.stage import Stage, kept_stopped
from benchmarks.gates import Gate, at_most

LIMIT_SECONDS = 25.0
HANGING = 0.5
"""Seconds between an engine's hanging and the stop, in which jobs are claimed that it never draws."""


async def drain(stage: Stage, rng: random.Random, *, jobs: int, stops: int, hung: bool) -> Outcome:
    """`stops` restarts; with `hung` one before them while the engine hangs, whose jobs cannot end."""

    async def restart(crowd: Crowd) -> tuple[dict[str, Any], list[Gate]]:
        seconds, codes, in_flight, blamed = [], [], 0, 0
        for number in range(stops + hung):
            crowd.allowed = round(jobs * (number + 1) / (stops + hung))
            await until_ended(stage, crowd, crowd.ended + 1, 60)
            async with AsyncExitStack() as hanging:
                if hung and number == 0:
                    assert stage.engine is not None
                    await hanging.enter_async_context(kept_stopped(stage.engine))
                    await asyncio.sleep(HANGING)
                in_flight = max(in_flight, sum(row.state == "running" for row in await stage.rows()))
                code, took = await stage.stop()
            seconds.append(took)
            codes.append(code)
            if hung and number == 0:  # the bot had found out and replaced the engine, which is a crash like any other
                blamed = sum(row.crashes for row in await stage.rows())
            await stage.start()
        charged = sum(row.crashes for row in await stage.rows()) - blamed
        gates = [
            at_most("slowest_stop", max(seconds), LIMIT_SECONDS),
            at_most("charged", charged, 0),
            at_most("bad_exits", sum(map(bool, codes)), 0),
        ]
        figures = {"slowest_stop": round(max(seconds), 2), "charged": charged, "bad_exits": sum(map(bool, codes))}
        return figures | {"most_in_flight": in_flight, "blamed_for_the_hung_engine": blamed}, gates

    return await disturbed(stage, rng, restart, jobs=jobs, begin=0.1)
