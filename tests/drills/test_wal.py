"""Power cuts in short."""

from __future__ import annotations

import random

from benchmarks.drills.wal import wal

from .conftest import SetStage, held


async def test_whatever_a_power_cut_leaves_of_the_log_is_sound_and_a_prefix(
    set_stage: SetStage, rng: random.Random
) -> None:
    async with set_stage() as stage:
        held(await wal(stage, rng, cuts=12))
