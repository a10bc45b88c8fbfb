"""A rush in short, with limits that a busy machine keeps too; `make drills` is strict."""

from __future__ import annotations

import random

import pytest

from benchmarks.drills.rush import longest_lag, rush

from .conftest import JOBS, SetStage, held


async def test_everybody_who_presses_at_once_is_answered(set_stage: SetStage, rng: random.Random) -> None:
    async with set_stage() as stage:
        figures = held(await rush(stage, rng, jobs=4, users=JOBS - 4, waves=1, ack=3000, lag=3000))
    assert figures["posted"] == JOBS


def test_the_longest_lag_is_that_of_any_life_of_the_bot() -> None:
    line = "INFO bot.lag: The event loop was late by {} ms at most.\n"
    assert longest_lag(line.format(12) + "stopped\n" + line.format(310) + line.format(7)) == 310
    with pytest.raises(ValueError, match="empty"):
        longest_lag("killed before it could say anything")
