"""Jobs that a moderator has to look at before they are drawn."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from bot.errors import QueueFull
from bot.jobs import decided
from bot.jobs.model import JobState
from bot.jobs.queue import JobQueue
from bot.jobs.quota import Terms
from bot.moderation.cases import Case, CaseKind, case_of
from bot.storage import tables
from bot.storage.session import Database
from tests.bot.databases import EITHER_DATABASE

from .conftest import new_job

pytestmark = EITHER_DATABASE


async def release(database: Database, job_id: int) -> bool:
    async with database.write() as connection:
        return await decided.release(connection, job_id)


async def refuse(database: Database, job_id: int) -> bool:
    async with database.write() as connection:
        return await decided.refuse(connection, job_id, "A moderator refused this prompt.")


async def cases(database: Database) -> list[Case]:
    async with database.read() as connection:
        return [case_of(row) for row in await connection.execute(select(tables.cases))]


async def charged(database: Database) -> list[int]:
    async with database.read() as connection:
        return list(await connection.scalars(select(tables.charges.c.job_id)))


async def test_a_held_job_is_a_case_and_drawn_by_nobody(database: Database, queue: JobQueue) -> None:
    new = new_job(held="Rule 3 holds it.")
    job = await queue.submit(new, cost=1.0)
    assert await queue.submit(new, cost=1.0) == job  # the interaction comes again
    assert job.state is JobState.HELD

    (case,) = await cases(database)
    assert (case.kind, case.job_id, case.user_id, case.guild_id) == (CaseKind.PROMPT, job.id, job.user_id, job.guild_id)
    assert case.reason == "Rule 3 holds it."
    assert await queue.claim() is None
    assert await queue.recover() == 0
    assert await queue.clear(900) == 0
    assert await queue.position(job) is None
    assert await queue.waiting(5) == ()
    assert [snapshot.job.id for snapshot in (await queue.line(user_id=job.user_id, limit=5))[0]] == [job.id]


async def test_a_released_job_waits_its_turn_and_a_second_click_does_nothing(
    database: Database, queue: JobQueue
) -> None:
    held = await queue.submit(new_job(user_id=1, held="Rule 3 holds it."), cost=1.0)
    others = [await queue.submit(new_job(user_id=2), cost=5.0) for _ in range(2)]
    for _ in others:
        assert await queue.claim() is not None
    waiting = await queue.submit(new_job(user_id=3), cost=1.0)

    assert await release(database, held.id)
    assert not await release(database, held.id)
    assert not await refuse(database, held.id)

    turns = [await queue.claim(), await queue.claim()]
    assert [job.id for job in turns if job] == [held.id, waiting.id]


async def test_a_refused_job_says_so_and_costs_nothing(database: Database, queue: JobQueue) -> None:
    terms = Terms(estimate=3.0, user_limit=100.0)
    job = await queue.submit(new_job(held="Rule 3 holds it."), cost=1.0, terms=terms)
    assert await charged(database) == [job.id]

    assert await refuse(database, job.id)
    assert not await release(database, job.id)

    job = await queue.get(job.id)
    assert (job.state, job.error) == (JobState.FAILED, "A moderator refused this prompt.")
    assert await charged(database) == []
    assert await queue.unshown() == (job.id,)


async def test_held_jobs_count_as_waiting_and_can_be_cancelled(database: Database) -> None:
    queue = JobQueue(database, queued_per_user=2)
    held = await queue.submit(new_job(held="Rule 3 holds it."), cost=1.0)
    await queue.submit(new_job(), cost=1.0)
    with pytest.raises(QueueFull, match="2 jobs waiting"):
        await queue.submit(new_job(), cost=1.0)

    assert await queue.cancel(held.id)
    assert not await release(database, held.id)
    await queue.submit(new_job(), cost=1.0)
