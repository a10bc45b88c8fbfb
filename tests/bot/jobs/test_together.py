"""What is asked for at once is done at once, and one that goes wrong harms nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from sqlalchemy.exc import IntegrityError

from bot.errors import QueueFull
from bot.jobs.model import Job
from bot.jobs.queue import JobQueue
from bot.jobs.together import Together
from tests.bot.databases import EITHER_DATABASE

from .conftest import WatchedDatabase, new_job


async def test_what_is_asked_meanwhile_is_answered_next_and_together() -> None:
    batches: list[list[int]] = []
    go_on = asyncio.Event()

    async def double(numbers: Sequence[int]) -> list[int | Exception]:
        batches.append(list(numbers))
        await go_on.wait()
        return [ValueError(f"no {number}") if number == 3 else 2 * number for number in numbers]

    together = Together(double)
    first = asyncio.create_task(together.ask(1))
    await asyncio.sleep(0)
    others = [asyncio.create_task(together.ask(number)) for number in (2, 3, 4)]
    gone = asyncio.create_task(together.ask(5))
    await asyncio.sleep(0)
    gone.cancel()
    go_on.set()

    answers = await asyncio.gather(first, *others, return_exceptions=True)

    assert batches == [[1], [2, 3, 4]], "nobody waits for 5 any more"
    assert [str(answer) for answer in answers] == ["2", "4", "no 3", "8"]
    assert await together.ask(6) == 12


async def test_what_the_work_itself_raises_reaches_everybody() -> None:
    async def fail(numbers: Sequence[int]) -> list[int | Exception]:
        raise OSError("the disk is full")

    together = Together(fail)
    for found in await asyncio.gather(*(together.ask(number) for number in range(3)), return_exceptions=True):
        assert isinstance(found, OSError)


@EITHER_DATABASE
async def test_presses_at_once_are_few_commits_and_only_what_is_refused_is_left_out(database: WatchedDatabase) -> None:
    queue = JobQueue(database, queued_per_user=2)
    twice = new_job(user_id=2)
    asked = [*(new_job(user_id=1) for _ in range(3)), twice, twice, *(new_job(user_id=user) for user in range(3, 20))]
    asked.append(new_job(user_id=20, parent_id=12345))

    found = await asyncio.gather(*(queue.submit(new, cost=1.0) for new in asked), return_exceptions=True)

    jobs = [one for one in found if isinstance(one, Job)]
    assert isinstance(found[2], QueueFull)
    assert isinstance(found[-1], IntegrityError)
    assert found[3] == found[4]
    assert len(jobs) == len(asked) - 2
    assert len(await queue.waiting(100)) == len({job.id for job in jobs}) == len(asked) - 3


@pytest.mark.parametrize("people", [1, 40])
async def test_as_many_presses_at_once_as_there_are_take_two_commits_at_most(
    database: WatchedDatabase, people: int
) -> None:
    queue = JobQueue(database)
    written = database.written

    await asyncio.gather(*(queue.submit(new_job(user_id=user), cost=1.0) for user in range(people)))

    assert database.written - written <= 2
