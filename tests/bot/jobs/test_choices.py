"""What a server draws with, on both databases: for good, for a while, and what was done about it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from bot.errors import ChangeNotFound
from bot.jobs.changes import Change, ChangeKind, Changes, ChangeState
from bot.jobs.checkpoints import Checkpoints, Choice, Uses
from bot.jobs.measures import Measure, Measures
from bot.jobs.queue import JobQueue
from bot.storage.session import Database
from tests.bot.databases import EITHER_DATABASE

from .conftest import new_job

pytestmark = EITHER_DATABASE

SERVER, OTHER = 900, 901
SOON = datetime.now(UTC) + timedelta(hours=2)


@pytest.fixture
def checkpoints(database: Database) -> Checkpoints:
    return Checkpoints(database)


@pytest.fixture
def changes(database: Database) -> Changes:
    return Changes(database)


async def begin(changes: Changes, checkpoint: str | None, until: datetime | None = None) -> Change:
    return await changes.begin(
        ChangeKind.SWITCH,
        guild_id=SERVER,
        user_id=1,
        channel_id=500,
        interaction_token="secret",
        checkpoint=checkpoint,
        until=until,
    )


async def test_each_server_has_its_own_choice(checkpoints: Checkpoints) -> None:
    await checkpoints.choose(SERVER, "other")
    await checkpoints.choose(SERVER, "embedded")
    assert await checkpoints.of_guild(SERVER) == Choice("embedded")
    assert await checkpoints.of_guild(OTHER) == await checkpoints.of_guild(None) == Choice()
    await checkpoints.choose(SERVER, None)
    assert await checkpoints.of_guild(SERVER) == Choice()


async def test_a_choice_for_a_while_ends_by_itself(checkpoints: Checkpoints) -> None:
    await checkpoints.choose(SERVER, "always")
    await checkpoints.choose(SERVER, "tonight", SOON)
    assert await checkpoints.of_guild(SERVER) == Choice("always", "tonight", SOON)
    assert (await checkpoints.of_guild(SERVER)).current == "tonight"
    assert await checkpoints.uses("tonight") == Uses(guilds=1, jobs=0)
    await checkpoints.choose(SERVER, "tonight", datetime.now(UTC) - timedelta(seconds=1))
    assert await checkpoints.of_guild(SERVER) == Choice("always")
    assert await checkpoints.uses("tonight") == Uses(guilds=0, jobs=0)


async def test_a_choice_for_good_ends_one_for_a_while(checkpoints: Checkpoints) -> None:
    await checkpoints.choose(SERVER, "tonight", SOON)
    await checkpoints.choose(SERVER, "always")
    assert await checkpoints.of_guild(SERVER) == Choice("always")


async def test_jobs_that_wait_are_uses_until_they_end(checkpoints: Checkpoints, queue: JobQueue) -> None:
    job = await queue.submit(new_job(checkpoint="second"), cost=1.0)
    assert await checkpoints.uses("second") == Uses(guilds=0, jobs=1)
    await queue.cancel(job.id)
    assert await checkpoints.uses("second") == Uses(guilds=0, jobs=0)


async def test_a_server_offers_everything_or_what_it_lists(checkpoints: Checkpoints) -> None:
    await checkpoints.allow(SERVER, ["b", "a", "b"])
    await checkpoints.allow(OTHER, ["c"])
    assert await checkpoints.allowed(SERVER) == {"a", "b"}
    await checkpoints.allow(SERVER, [])
    assert await checkpoints.allowed(SERVER) == await checkpoints.allowed(None) == frozenset()
    assert await checkpoints.allowed(OTHER) == {"c"}


async def test_a_switch_is_committed_with_what_it_took_the_place_of(checkpoints: Checkpoints, changes: Changes) -> None:
    assert await changes.last_switch(SERVER) is None
    first = await begin(changes, "second")
    assert await changes.commit(first) == Choice()
    again = await begin(changes, "second")
    assert await changes.commit(again) == Choice("second")
    tonight = await begin(changes, "third", SOON)
    assert await changes.commit(tonight) == Choice("second")
    assert (await checkpoints.of_guild(SERVER)).current == "third"
    # Neither what changed nothing nor what ends by itself is to be gone back from.
    last = await changes.last_switch(SERVER)
    assert last is not None and (last.id, last.previous, last.state) == (first.id, None, ChangeState.DONE)
    assert await changes.last_switch(OTHER) is None


async def test_what_a_crash_cut_off_changed_nothing_and_is_told_once(
    checkpoints: Checkpoints, changes: Changes
) -> None:
    cut_off = await begin(changes, "second")
    await changes.attach_message(cut_off.id, 7)
    await changes.interrupt()
    (left,) = await changes.unshown()
    assert (left.id, left.state, left.message_id) == (cut_off.id, ChangeState.INTERRUPTED, 7)
    assert left.interaction_token == "" and "secret" not in repr(cut_off)
    assert await checkpoints.of_guild(SERVER) == Choice()
    await changes.shown(left.id)
    assert await changes.unshown() == ()


async def test_one_press_confirms(changes: Changes) -> None:
    asked = await changes.begin(
        ChangeKind.REMOVE,
        guild_id=SERVER,
        user_id=1,
        channel_id=500,
        interaction_token="secret",
        checkpoint="second",
        state=ChangeState.ASKED,
    )
    assert [await changes.confirm(asked.id) for _ in range(2)] == [True, False]
    with pytest.raises(ChangeNotFound):
        await changes.get(asked.id + 1)


async def test_the_last_measure_counts(database: Database) -> None:
    measures = Measures(database)
    assert await measures.of("a" * 64) is None
    for measure in (Measure(2.0, None), Measure(1.5, 10**9)):
        await measures.record("a" * 64, measure)
        assert await measures.of("a" * 64) == measure
