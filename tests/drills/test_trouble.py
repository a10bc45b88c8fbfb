"""A full disk, a held lock, a hung engine, a jumping clock, an outage and a stop, each in short."""

from __future__ import annotations

import random
import shutil
import sys

import pytest

from benchmarks.drills.clock import clock
from benchmarks.drills.diskfull import diskfull
from benchmarks.drills.drain import drain
from benchmarks.drills.locked import locked
from benchmarks.drills.outage import outage
from benchmarks.drills.zombie import zombie

from .conftest import JOBS, MANY_JOBS, SetStage, held

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits, signals and preloading as Linux has them")


async def test_a_full_disk_leaves_no_job_running_for_ever(set_stage: SetStage, rng: random.Random) -> None:
    async with set_stage() as stage:
        figures = held(await diskfull(stage, rng, jobs=JOBS, times=1, full=1.5))
    assert figures["posted"] + figures["failed"] == JOBS


async def test_a_lock_held_by_somebody_else_only_takes_time_even_if_the_bot_is_killed_over_it(
    set_stage: SetStage, rng: random.Random
) -> None:
    async with set_stage() as stage:
        figures = held(await locked(stage, rng, jobs=MANY_JOBS, held=2.0))
    assert figures["posted"] == MANY_JOBS


async def test_an_engine_that_stops_for_a_while_goes_on(set_stage: SetStage, rng: random.Random) -> None:
    async with set_stage() as stage:
        figures = held(await zombie(stage, rng, jobs=JOBS, wake=2.0))
    assert (figures["posted"], figures["reruns"]) == (JOBS, 0)


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
async def test_a_clock_that_jumps_loses_nothing(set_stage: SetStage, rng: random.Random) -> None:
    async with set_stage() as stage:
        figures = held(await clock(stage, rng, jobs=JOBS, pause=2.0))
    assert figures["posted"] == JOBS


async def test_an_outage_of_discord_delays_results_and_loses_none(set_stage: SetStage, rng: random.Random) -> None:
    async with set_stage() as stage:
        figures = held(await outage(stage, rng, jobs=JOBS, seconds=2.0, spells=4))
    assert figures["posted"] == JOBS


async def test_a_stop_is_quick_and_charges_nobody(set_stage: SetStage, rng: random.Random) -> None:
    async with set_stage() as stage:
        figures = held(await drain(stage, rng, jobs=JOBS, stops=1, hung=False))
    assert figures["posted"] == JOBS
