"""Discord in trouble: its answers are 500 to 504, 429 or late, connections are cut before or after the effect, the
gateway goes away and comes back."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

from benchmarks.drills.crowd import Crowd
from benchmarks.drills.report import Outcome
from benchmarks.drills.scene import disturbed
from benchmarks.drills.stage import Stage
from benchmarks.gates import Gate

EDITS, ANSWERS, ALL = "PATCH *", "POST /interactions/*", "*"
TROUBLES: tuple[dict[str, Any], ...] = (
    {"route": ALL, "status": 500},
    {"route": ALL, "status": 503},
    {"route": EDITS, "status": 502},
    {"route": EDITS, "status": 429, "retry_after": 1.0},
    {"route": ALL, "drop": "before"},
    {"route": ALL, "drop": "after"},
    {"route": ANSWERS, "drop": "after"},
    {"route": EDITS, "delay": 2.0},
)
GATEWAY: tuple[dict[str, Any], ...] = (
    {"gateway": "drop"},
    {"gateway": "reconnect"},
    {"gateway": "invalid_session", "resumable": False},
    {"gateway": "close", "code": 4000},
)
ALWAYS = 1_000_000


async def outage(stage: Stage, rng: random.Random, *, jobs: int, seconds: float, spells: int) -> Outcome:
    """`spells` troubles one after the other, which take `seconds` altogether."""

    async def trouble(crowd: Crowd) -> tuple[dict[str, Any], list[Gate]]:
        met: Counter[str] = Counter()
        for _ in range(spells):
            fault = rng.choice(TROUBLES)
            stage.sandbox.faults.inject({**fault, "times": ALWAYS})
            met[str(fault.get("status") or fault.get("drop") or "late")] += 1
            if rng.random() < 0.3:
                stage.sandbox.faults.inject(dict(rng.choice(GATEWAY)))
                met["gateway"] += 1
            await asyncio.sleep(seconds / spells)
            stage.sandbox.faults.clear()
        return {"outage_seconds": seconds, "troubles": dict(met)}, []

    return await disturbed(stage, rng, trouble, jobs=jobs, begin=0.1)
