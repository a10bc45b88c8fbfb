"""kill -9 at random moments, in short; `make drills` does it a thousand jobs long."""

from __future__ import annotations

import random

from benchmarks.drills.crash import crash

from .conftest import JOBS, SetStage


async def test_kills_lose_nothing_and_post_nothing_twice(set_stage: SetStage, rng: random.Random) -> None:
    async with set_stage() as stage:
        outcome = await crash(stage, rng, jobs=JOBS, kills=2)
    assert outcome.figures["jobs"] == outcome.figures["posted"] == JOBS
    assert [gate for gate in outcome.gates if not gate.ok] == []
