"""GPU time: charged by estimate, settled by measure, refunded when nobody got a picture, refused past a limit."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import update

from bot.errors import QuotaUsedUp
from bot.jobs.model import Job, JobState
from bot.jobs.queue import MAX_CRASHES, JobQueue
from bot.jobs.quota import Policy, Quotas, Terms
from bot.storage import tables
from bot.storage.session import Database
from tests.bot.databases import EITHER_DATABASE

from .conftest import new_job
from .test_queue import claim, stored

GUILD = 900


@pytest.fixture
def quotas(database: Database) -> Quotas:
    return Quotas(database, Policy(user_limit=60.0, guild_limit=100.0, role_limits={7: 300.0, 8: 30.0}))


async def submit(queue: JobQueue, estimate: float = 10.0, *, user_id: int = 1, **terms: Any) -> Job:
    return await queue.submit(new_job(user_id=user_id), cost=1.0, terms=Terms(estimate=estimate, **terms))


async def used(quotas: Quotas) -> tuple[float, float]:
    return (await quotas.of_user(1, ())).used, (await quotas.of_guild(GUILD)).used


@EITHER_DATABASE
async def test_a_job_counts_by_estimate_until_its_seconds_are_known(queue: JobQueue, quotas: Quotas) -> None:
    await submit(queue, 10.0)
    await submit(queue, 5.0, user_id=2)
    assert await used(quotas) == (10.0, 15.0)
    job = await claim(queue)
    await queue.rendered(job, [stored(job)], seconds=12.5)
    assert await used(quotas) == (12.5, 17.5)


@EITHER_DATABASE
@pytest.mark.parametrize("ending", ["cancel", "clear", "fail", "crash", "unshowable"])
async def test_a_job_that_gave_nobody_a_picture_is_refunded(queue: JobQueue, quotas: Quotas, ending: str) -> None:
    job = await submit(queue)
    if ending == "cancel":
        await queue.cancel(job.id)
    elif ending == "clear":
        await queue.clear(GUILD)
    elif ending == "fail":
        await queue.fail(await claim(queue), "No.")
    elif ending == "crash":
        for _ in range(MAX_CRASHES):
            assert (await used(quotas))[0] == 10.0
            await queue.crashed(await claim(queue))
    else:
        drawn = await claim(queue)
        await queue.rendered(drawn, [stored(drawn)], seconds=3.0)
        await queue.unshowable(job.id, JobState.FAILED, "Too large.", give_up=False)
    assert await used(quotas) == (0.0, 0.0)


@EITHER_DATABASE
async def test_a_late_word_of_an_older_attempt_charges_and_refunds_nothing(queue: JobQueue, quotas: Quotas) -> None:
    await submit(queue)
    stale = await claim(queue)
    await queue.recover()
    await claim(queue)
    await queue.rendered(stale, [stored(stale)], seconds=99.0)
    await queue.fail(stale, "Too late.")
    assert (await used(quotas))[0] == 10.0


@EITHER_DATABASE
async def test_past_a_limit_one_sentence_says_what_is_left_and_when_a_new_day_begins(queue: JobQueue) -> None:
    await submit(queue, 40.0, user_limit=60.0)
    with pytest.raises(QuotaUsedUp) as refusal:
        await submit(queue, 30.0, user_limit=60.0)
    (moment,) = re.findall(r"<t:(\d+):R>", str(refusal.value))
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)
    assert datetime.fromtimestamp(int(moment), UTC) == datetime(*tomorrow.timetuple()[:3], tzinfo=UTC)
    assert str(refusal.value) == (
        "You have 20 of 60 s of GPU time left for today, and this would take about 30 s; "
        f"a new day begins <t:{moment}:R>."
    )
    assert await queue.claim() is not None
    assert await queue.claim() is None


@EITHER_DATABASE
async def test_a_server_as_a_whole_has_a_limit_too(queue: JobQueue) -> None:
    await submit(queue, 60.0, user_id=1, guild_limit=100.0)
    with pytest.raises(QuotaUsedUp, match="This server has 40 of 100 s"):
        await submit(queue, 60.0, user_id=2, guild_limit=100.0)
    elsewhere = new_job(user_id=2, guild_id=901)
    await queue.submit(elsewhere, cost=1.0, terms=Terms(estimate=60.0, guild_limit=100.0))
    direct = new_job(user_id=2, guild_id=None)
    await queue.submit(direct, cost=1.0, terms=Terms(estimate=999.0, guild_limit=100.0))


@EITHER_DATABASE
async def test_many_at_once_cannot_pass_a_servers_limit_together(queue: JobQueue, quotas: Quotas) -> None:
    asked = (submit(queue, 30.0, user_id=user, guild_limit=100.0) for user in range(8))
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert sum(isinstance(outcome, QuotaUsedUp) for outcome in outcomes) == 5
    assert (await used(quotas))[1] == 90.0


async def test_nothing_goes_once_all_is_used_though_nobody_knows_how_long_it_takes(queue: JobQueue) -> None:
    await submit(queue, 0.0, user_limit=60.0)
    job = await claim(queue)
    await queue.rendered(job, [stored(job)], seconds=61.0)
    with pytest.raises(QuotaUsedUp, match=r"^You have 0 of 60 s of GPU time left for today; a new day begins"):
        await submit(queue, 0.0, user_limit=60.0)


@EITHER_DATABASE
async def test_a_new_day_begins_with_nothing_used(database: Database, queue: JobQueue, quotas: Quotas) -> None:
    await submit(queue, 60.0)
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    async with database.write() as connection:
        await connection.execute(update(tables.charges).values(day=yesterday))
    assert await used(quotas) == (0.0, 0.0)
    await submit(queue, 60.0, user_limit=60.0)


@EITHER_DATABASE
async def test_managers_see_who_used_most(queue: JobQueue, quotas: Quotas) -> None:
    for user_id, seconds in ((1, 5.0), (2, 20.0), (1, 5.0), (3, 1.0)):
        await submit(queue, seconds, user_id=user_id)
    assert await quotas.most_in_guild(GUILD, 2) == ((2, 20.0), (1, 10.0))


async def test_of_several_roles_the_most_generous_counts(quotas: Quotas) -> None:
    limits = [(await quotas.of_user(1, roles)).limit for roles in ((), (9,), (8,), (8, 7))]
    assert limits == [60.0, 60.0, 30.0, 300.0]
    policy = Policy(role_weights={7: 3.0, 8: 0.5})
    assert [policy.weight(roles) for roles in ((), (8,), (8, 7))] == [1.0, 0.5, 3.0]
    assert policy.weight((7,), draft=True) == 2 * policy.weight((7,))
