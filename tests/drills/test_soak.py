"""A soak in short: the figures are there; how steep a slope is, is judged on samples made up here."""

from __future__ import annotations

import math
import random

import pytest

from benchmarks.drills.soak import slope_per_hour, soak

from .conftest import JOBS, SetStage, held


async def test_memory_is_watched_while_people_ask(set_stage: SetStage, rng: random.Random) -> None:
    async with set_stage() as stage:
        figures = held(await soak(stage, rng, jobs=JOBS, minutes=0.04, growth=math.inf))
    assert figures["posted"] == figures["jobs"] > 0
    assert figures["bot_mb"] > 10
    assert figures["engine_mb"] > 10


@pytest.mark.parametrize("leak", [0.0, 36.0])
def test_a_leak_is_seen_through_noise_and_spikes(leak: float) -> None:
    rng = random.Random(1)
    minutes = [(60.0 * minute, 200 + leak * minute / 60 + rng.gauss(0, 0.5)) for minute in range(120)]
    spikes = [(seconds, size + 300 * (number % 17 == 0)) for number, (seconds, size) in enumerate(minutes)]
    assert slope_per_hour(spikes) == pytest.approx(leak, abs=1.0)
