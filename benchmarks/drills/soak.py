"""People ask for minutes or days without anything going wrong: nothing is lost, and memory does not grow."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import suppress
from typing import Any

import numpy as np
import psutil

from benchmarks.drills.crowd import Crowd
from benchmarks.drills.report import Outcome
from benchmarks.drills.scene import disturbed
from benchmarks.drills.stage import Stage
from benchmarks.gates import Gate, at_most

GROWTH = 60.0
"""MB an hour that are still no leak: caches and the allocator settle slowly."""
WARM_UP = 0.4
"""Share of the time in which caches, pools and the allocator may fill."""
SAMPLES = 300

Sample = tuple[float, dict[str, float]]
"""Seconds since the beginning, and megabytes of each process."""


async def soak(stage: Stage, rng: random.Random, *, jobs: int, minutes: float, growth: float) -> Outcome:
    """At most `jobs` jobs; `growth` is how many MB an hour the bot or its engine may grow after the warm-up."""

    async def endure(crowd: Crowd) -> tuple[dict[str, Any], list[Gate]]:
        samples = await _watch(stage, 60 * minutes)
        crowd.enough()
        figures: dict[str, Any] = {"minutes": minutes, "jobs_per_minute": round(crowd.ended / minutes, 1)}
        gates = []
        for process in ("bot", "engine"):
            memory = [(seconds, sizes[process]) for seconds, sizes in samples if process in sizes]
            slope = slope_per_hour([sample for sample in memory if sample[0] >= WARM_UP * 60 * minutes])
            figures[f"{process}_mb"] = round(memory[-1][1], 1)
            figures[f"{process}_mb_per_hour"] = round(slope, 2)
            gates.append(at_most(f"{process}_mb_per_hour", slope, growth))
        return figures, gates

    return await disturbed(stage, rng, endure, jobs=jobs, begin=1 / jobs)  # the engine draws from then on


async def _watch(stage: Stage, seconds: float) -> list[Sample]:
    samples: list[Sample] = []
    began = time.monotonic()
    while (now := time.monotonic() - began) < seconds:
        sizes = {}
        for name, process in (("bot", stage.bot), ("engine", stage.engine)):
            with suppress(psutil.NoSuchProcess):
                if process is not None:
                    sizes[name] = process.memory_info().rss / 1e6
        samples.append((now, sizes))
        await asyncio.sleep(seconds / SAMPLES)
    return samples


def slope_per_hour(samples: list[tuple[float, float]]) -> float:
    """The median slope between any two samples (Theil-Sen), which a spike or a step does not move."""
    seconds, megabytes = (np.array(column) for column in zip(*samples, strict=True))
    one, other = np.triu_indices(len(samples), k=1)
    slopes = (megabytes[other] - megabytes[one]) / (seconds[other] - seconds[one])
    return float(np.median(slopes)) * 3600
