"""Many people press in one moment while the engine is busy: how long until each is answered, and whether the bot's
event loop ever stands still meanwhile."""

from __future__ import annotations

import asyncio
import random
import re
from typing import Any

import numpy as np
import psutil

from benchmarks.drills.crowd import Asked, Crowd
from benchmarks.drills.report import Outcome
from benchmarks.drills.scene import disturbed
from benchmarks.drills.stage import Stage
from benchmarks.gates import Gate, at_most

ACK_P99_MS = 500
LAG_MS = 250
BETWEEN = 5.0
"""Seconds between two waves."""


async def rush(
    stage: Stage, rng: random.Random, *, jobs: int, users: int, waves: int, ack: float = ACK_P99_MS, lag: float = LAG_MS
) -> Outcome:
    """`users` newcomers press at once, `waves` times, while others keep the engine busy with `jobs` jobs of theirs."""
    pressed: list[Asked] = []

    async def press(crowd: Crowd) -> tuple[dict[str, Any], list[Gate]]:
        assert stage.bot is not None
        busy = 0.0
        for wave in range(waves):
            await asyncio.sleep(BETWEEN if wave else 0)
            before = _cpu_seconds(stage.bot)
            pressed.extend(await crowd.rush(users))
            busy += _cpu_seconds(stage.bot) - before
        taken = [asked.acknowledged - asked.sent for asked in pressed if asked.acknowledged is not None]
        p50, p99, longest = (round(1000 * float(np.quantile(taken, share))) for share in (0.5, 0.99, 1.0))
        figures: dict[str, Any] = {"presses": users * waves, "unanswered": users * waves - len(taken)}
        figures["cpu_ms_per_press"] = round(1000 * busy / (users * waves), 1)
        figures |= {"ack_p50_ms": p50, "ack_p99_ms": p99, "ack_max_ms": longest}
        return figures, [at_most("unanswered", figures["unanswered"], 0), at_most("ack_p99_ms", p99, ack)]

    outcome = await disturbed(stage, rng, press, jobs=jobs, begin=0.1)
    longest = longest_lag(stage.log())
    return Outcome(outcome.figures | {"lag_ms": longest}, [*outcome.gates, at_most("lag_ms", longest, lag)])


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def longest_lag(log: str) -> int:
    """Milliseconds, as the bot says them when it stops."""
    return max(int(milliseconds) for milliseconds in re.findall(r"event loop was late by (\d+) ms", log))
