"""kill -9 at random moments, in short; `make drills` does it a thousand jobs long."""

from __future__ import annotations

import random

from benchmarks.drills.crash import crash

from .conftest import JOBS, SetStage, held


async def test_kills_lose_nothing_and_post_nothing_twice(set_stage: SetStage, rng: random.Random) -> None:
    async with set_stage() as stage:
        figures = held(await crash(stage, rng, jobs=JOBS, kills=1))
    assert figures["posted"] == JOBS
    assert figures["kills"] == 1
