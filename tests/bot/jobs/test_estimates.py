"""When a waiting job will be done, from how long its like took."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from bot.jobs import estimates
from bot.jobs.estimates import SAMPLES, Work
from bot.jobs.model import Job
from bot.jobs.queue import JobQueue
from tests.bot.databases import EITHER_DATABASE

from .conftest import new_job
from .test_queue import claim, stored

pytestmark = EITHER_DATABASE

SMALL = Work("embedded", 64, 10, 1.0)


@pytest.fixture(autouse=True)
def always_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimates, "REFRESH", 0.0)


async def submit(queue: JobQueue, work: Work = SMALL, user_id: int = 1) -> Job:
    new = new_job(user_id=user_id, checkpoint=work.checkpoint)
    return await queue.submit(new, cost=work.cost, size=work.size, steps=work.steps)


async def draw(queue: JobQueue, seconds: float, work: Work = SMALL) -> None:
    await submit(queue, work)
    job = await claim(queue)
    assert await queue.rendered(job, [stored(job)], seconds=seconds)


async def wait_of(queue: JobQueue, job: Job) -> float:
    done_at = (await queue.look(job.id)).done_at
    assert done_at is not None
    return (done_at - datetime.now(UTC)) / timedelta(seconds=1)


async def test_nobody_guesses_before_the_first_job_was_drawn(queue: JobQueue) -> None:
    assert await queue.estimates.seconds(SMALL) is None
    assert (await queue.look((await submit(queue)).id)).done_at is None


async def test_a_job_takes_as_long_as_its_like_took_lately(queue: JobQueue) -> None:
    for _ in range(3):
        await draw(queue, 400.0)
    for seconds in (2.0, 4.0) * (SAMPLES // 2):
        await draw(queue, seconds)
    assert await queue.estimates.seconds(SMALL) == pytest.approx(3.0)
    assert await queue.estimates.seconds(Work("embedded", 64, 10, 2.0)) == pytest.approx(6.0)


async def test_size_and_steps_have_their_own_measure_and_the_next_best_serves_until_then(queue: JobQueue) -> None:
    large = Work("embedded", 256, 10, 16.0)
    await draw(queue, 2.0)
    assert await queue.estimates.seconds(large) == pytest.approx(32.0)
    await draw(queue, 8.0, large)
    assert await queue.estimates.seconds(large) == pytest.approx(8.0)
    assert await queue.estimates.seconds(SMALL) == pytest.approx(2.0)
    assert await queue.estimates.seconds(Work("other", 64, 10, 17.0)) == pytest.approx(10.0)


async def test_a_waiting_job_is_done_after_those_ahead_and_itself(queue: JobQueue) -> None:
    await draw(queue, 10.0)
    for user_id in (2, 3):
        await submit(queue, user_id=user_id)
    last = await submit(queue, user_id=4)
    assert await wait_of(queue, last) == pytest.approx(30.0, abs=2.0)
    await claim(queue)
    assert await wait_of(queue, last) == pytest.approx(30.0, abs=2.0)
    await claim(queue)
    assert await wait_of(queue, last) == pytest.approx(20.0, abs=2.0)  # two are drawn at once
    assert await queue.position(await queue.get(last.id)) == 0
