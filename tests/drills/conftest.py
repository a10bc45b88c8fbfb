"""One set of wishes for every drill here, so that their pictures are drawn once to compare with."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks.drills.crowd import wishes
from benchmarks.drills.report import Outcome
from benchmarks.drills.stage import Stage, stage
from benchmarks.drills.verdict import draw

SEED = 5
JOBS = 12
MANY_JOBS = 36
"""So many that people still ask when the trouble begins."""

SetStage = Callable[..., AbstractAsyncContextManager[Stage]]


def held(outcome: Outcome) -> dict[str, Any]:
    """The figures, once every gate was ok."""
    assert [gate for gate in outcome.gates if not gate.ok] == [], outcome.figures
    return outcome.figures


@pytest.fixture(scope="session")
def references(checkpoints_dir: Path) -> dict[int, list[bytes]]:
    return asyncio.run(draw(checkpoints_dir, wishes(random.Random(SEED), MANY_JOBS)))


@pytest.fixture
def rng() -> random.Random:
    return random.Random(SEED)


@pytest.fixture
def set_stage(checkpoints_dir: Path, references: dict[int, list[bytes]]) -> SetStage:
    @asynccontextmanager
    async def ready(database: str = "sqlite", **settings: str) -> AsyncIterator[Stage]:
        async with stage(database, checkpoints_dir=checkpoints_dir, **settings) as place:
            place.references = references
            yield place

    return ready
