"""Moderators pause, drain and clear a server's queue, and nobody else's."""

from __future__ import annotations

import pytest

from bot.errors import QueueClosed
from bot.jobs.closures import EVERYWHERE, Closures
from bot.jobs.model import Closure, JobState
from bot.jobs.queue import JobQueue
from bot.storage.session import Database
from tests.bot.databases import EITHER_DATABASE

from .conftest import new_job
from .test_queue import claim, submit

pytestmark = EITHER_DATABASE

HERE, THERE = 900, 901


async def test_a_paused_server_keeps_its_place_while_others_go_on(queue: JobQueue, closures: Closures) -> None:
    first = await submit(queue, new_job(user_id=1, guild_id=HERE))
    second = await submit(queue, new_job(user_id=2, guild_id=THERE))
    direct = await submit(queue, new_job(user_id=3, guild_id=None))
    await closures.close(HERE, Closure.PAUSED)
    assert await queue.position(second) == 0
    assert [(await claim(queue)).id for _ in range(2)] == [second.id, direct.id]
    assert await queue.claim() is None
    assert (await queue.look(first.id)).paused
    assert await queue.waiting(10) == ()
    await closures.open(HERE)
    assert (await claim(queue)).id == first.id


async def test_everything_can_be_paused_and_direct_messages_with_it(queue: JobQueue, closures: Closures) -> None:
    await submit(queue, new_job(user_id=1, guild_id=HERE))
    await submit(queue, new_job(user_id=2, guild_id=None))
    await closures.close(EVERYWHERE, Closure.PAUSED)
    assert await queue.claim() is None
    await closures.open(HERE)
    assert await queue.claim() is None
    await closures.open(EVERYWHERE)
    assert [(await claim(queue)).user_id for _ in range(2)] == [1, 2]


async def test_a_pause_survives_a_restart(database: Database, queue: JobQueue, closures: Closures) -> None:
    await submit(queue)
    await closures.close(HERE, Closure.PAUSED)
    restarted = JobQueue(database)
    await restarted.recover()
    assert await restarted.claim() is None
    assert await Closures(database).of(HERE) == {HERE: Closure.PAUSED}


async def test_a_draining_server_takes_nothing_new_and_draws_what_waits(queue: JobQueue, closures: Closures) -> None:
    new = new_job(user_id=1)
    waiting = await submit(queue, new)
    await closures.close(HERE, Closure.DRAINING)
    with pytest.raises(QueueClosed, match="running empty"):
        await submit(queue, new_job(user_id=2))
    assert (await submit(queue, new)).id == waiting.id
    await submit(queue, new_job(user_id=2, guild_id=THERE))
    assert (await claim(queue)).id == waiting.id
    await closures.open(HERE)
    await submit(queue, new_job(user_id=2))


async def test_clearing_cancels_what_waits_in_that_server_only(queue: JobQueue) -> None:
    running = await submit(queue, new_job(user_id=1))
    await claim(queue)
    waiting = [await submit(queue, new_job(user_id=user)) for user in (1, 2)]
    elsewhere = await submit(queue, new_job(user_id=3, guild_id=THERE))
    assert await queue.clear(HERE) == 2
    assert await queue.unshown() == tuple(job.id for job in waiting)
    assert (await queue.get(running.id)).state is JobState.RUNNING
    assert (await queue.get(elsewhere.id)).state is JobState.QUEUED
    assert await queue.clear(EVERYWHERE) == 1
    assert await queue.clear(EVERYWHERE) == 0


async def test_a_list_shows_the_drawn_first_then_the_waiting_in_their_order(queue: JobQueue) -> None:
    mine = [await submit(queue, new_job(user_id=1)) for _ in range(3)]
    other = await submit(queue, new_job(user_id=2))
    await submit(queue, new_job(user_id=3, guild_id=THERE))
    await claim(queue)
    jobs, count = await queue.line(guild_id=HERE, limit=3)
    assert [snapshot.job.id for snapshot in jobs] == [mine[0].id, other.id, mine[1].id]
    assert [snapshot.position for snapshot in jobs] == [None, 0, 2]
    assert count == 4
    jobs, count = await queue.line(user_id=1, limit=10)
    assert ([snapshot.job.id for snapshot in jobs], count) == ([job.id for job in mine], 3)
