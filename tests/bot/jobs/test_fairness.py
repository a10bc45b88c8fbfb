"""Of seven people one has a hundred jobs waiting; the six others hardly wait longer for it.

Queue and dispatcher are the real ones. The engine draws as many jobs at once as it has slots, each for one unit of a
clock that only goes on when a job ends, so that no figure depends on how fast the machine is.
"""

from __future__ import annotations

import asyncio
from statistics import mean

from .conftest import Scene
from .scripted_engine import hold

LIGHT = range(1, 7)
FLOODING = 99
FLOOD = 100
SLOTS = 3
EACH = 6
"""Jobs that each of the light users asks for, the next one as soon as the last one ends."""


async def mean_waits(scene: Scene, *, flood: int) -> dict[int, float]:
    """Of each light user, from asking to the end of the job."""
    engine = scene.engine
    clock = 0.0
    ends: dict[str, float] = {}
    asked: dict[int, tuple[int, float]] = {}
    left = dict.fromkeys(LIGHT, EACH)
    waits: dict[int, list[float]] = {user: [] for user in LIGHT}

    async def ask(user: int) -> None:
        if left[user]:
            left[user] -= 1
            asked[(await scene.imagine(user_id=user, steps=10, images=1)).id] = user, clock

    await asyncio.gather(*(scene.imagine(user_id=FLOODING, steps=10, images=1) for _ in range(flood)))
    # All that one person may have in flight, so that it does not matter who came first.
    await engine.until(lambda: len(engine.in_flight) == min(2, flood))
    for user in LIGHT:
        await ask(user)
    while asked:
        busy = min(SLOTS, len(asked) + min(2, flood))
        await engine.until(lambda busy=busy: len(engine.in_flight) == busy)  # type: ignore[misc]
        for request_id in engine.in_flight:
            ends.setdefault(request_id, clock + 1.0)
        first = min(engine.in_flight, key=lambda request_id: (ends[request_id], request_id))
        clock = ends[first]
        job_id = int(first.partition(".")[0])
        if job_id in asked:
            user, since = asked.pop(job_id)
            waits[user].append(clock - since)
            await ask(user)
        run = engine.in_flight[first]
        run.proceed.set()
        await engine.until(lambda first=first: first not in engine.in_flight)  # type: ignore[misc]
    return {user: mean(found) for user, found in waits.items()}


async def test_six_people_wait_at_most_1_3_times_as_long_because_of_a_seventh_with_a_hundred_jobs(scene: Scene) -> None:
    scene.engine.capacity, scene.engine.script = SLOTS, hold
    await scene.dispatcher.start()

    alone = await mean_waits(scene, flood=0)
    beside = await mean_waits(scene, flood=FLOOD)

    assert {user: beside[user] <= 1.3 * alone[user] for user in LIGHT} == dict.fromkeys(LIGHT, True), (alone, beside)
    assert mean(beside.values()) > mean(alone.values())
