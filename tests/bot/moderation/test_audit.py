"""The audit log takes nothing back, shows what was done to it, and names nobody who was forgotten."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from bot.jobs.changes import ChangeKind, Changes
from bot.jobs.checkpoints import Checkpoints
from bot.jobs.closures import Closures
from bot.jobs.model import Closure
from bot.moderation import audit
from bot.moderation.audit import Deed
from bot.moderation.audit_log import AuditLog, Entry, Wanted
from bot.moderation.servers import Servers
from bot.storage.session import Database
from tests.bot.databases import EITHER_DATABASE

GUILD, OTHER_GUILD = 900, 901
MOD, ADMIN, ALICE, BOB = 1, 2, 3, 4


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    await database.upgrade()
    yield database
    await database.close()


async def write(database: Database, *acts: str, actor: int = MOD, guild: int = GUILD) -> None:
    for act in acts:
        await AuditLog(database).record(Deed(guild, actor, act, "queue"))


async def entries(database: Database, **wanted: object) -> tuple[Entry, ...]:
    found, count = await AuditLog(database).search(Wanted(GUILD, **wanted), limit=50)  # type: ignore[arg-type]
    assert count == len(found)
    return found


async def first_broken(database: Database) -> int | None:
    return (await AuditLog(database).verify(GUILD)).first_broken


@EITHER_DATABASE
@pytest.mark.parametrize("statement", ["UPDATE audit SET act = 'nothing'", "DELETE FROM audit", "TRUNCATE audit"])
async def test_the_database_itself_takes_nothing_back(database: Database, statement: str) -> None:
    await write(database, "queue.close")

    with pytest.raises(DBAPIError):
        async with database.write() as connection:
            await connection.execute(text(statement))

    assert [entry.act for entry in await entries(database)] == ["queue.close"]


@EITHER_DATABASE
async def test_many_who_write_at_once_make_one_chain(database: Database) -> None:
    # Two who appear for the first time meet each other as actor and as subject.
    async def deed(number: int) -> None:
        async with database.write() as connection:
            subject = await audit.person(connection, database, 100 + (number + 1) % 2)
            await audit.append(connection, database, Deed(GUILD, 100 + number % 2, "user.purge", subject))

    await asyncio.gather(*(deed(number) for number in range(20)))

    check = await AuditLog(database).verify(GUILD)
    assert (check.entries, check.first_broken) == (20, None)


@pytest.mark.parametrize(
    ("statement", "broken"),
    [
        ("UPDATE audit SET act = 'nothing' WHERE id = 2", 2),
        ("UPDATE audit SET actor = 'f00' WHERE id = 1", 1),
        ("DELETE FROM audit WHERE id = 2", 3),
        ("DELETE FROM audit WHERE id = 1", 2),
    ],
)
async def test_what_was_changed_past_the_triggers_shows(database: Database, statement: str, broken: int) -> None:
    await write(database, "queue.close", "queue.open", "queue.clear")
    assert await first_broken(database) is None

    async with database.write() as connection:
        for trigger in ("audit_refuses_update", "audit_refuses_delete"):
            await connection.execute(text(f"DROP TRIGGER {trigger}"))
        await connection.execute(text(statement))

    assert await first_broken(database) == broken


async def test_an_end_that_was_cut_off_shows_to_whoever_kept_the_newest_hash(database: Database) -> None:
    await write(database, "queue.close", "queue.open")
    kept = (await AuditLog(database).verify(GUILD)).newest
    assert (await AuditLog(database).verify(GUILD, kept)).known

    async with database.write() as connection:
        await connection.execute(text("DROP TRIGGER audit_refuses_delete"))
        await connection.execute(text("DELETE FROM audit WHERE id = 2"))

    check = await AuditLog(database).verify(GUILD, kept)
    assert check.first_broken is None
    assert not check.known


async def test_a_deed_and_its_entry_are_there_together_or_not_at_all(database: Database) -> None:
    with pytest.raises(ZeroDivisionError):
        async with database.write() as connection:
            await audit.append(connection, database, Deed(GUILD, MOD, "queue.close", "queue"))
            raise ZeroDivisionError
    assert await entries(database) == ()


@EITHER_DATABASE
async def test_entries_are_found_by_act_by_person_and_by_time(database: Database) -> None:
    await write(database, "queue.close", "queue.open")
    await write(database, "queuemaster.crown", actor=ADMIN)
    await write(database, "queue.clear", guild=OTHER_GUILD)
    async with database.write() as connection:
        subject = await audit.person(connection, database, ALICE)
        await audit.append(connection, database, Deed(GUILD, ADMIN, "user.purge", subject))
        author = {"author": await audit.pseudonym(connection, database, BOB)}
        await audit.append(connection, database, Deed(GUILD, ADMIN, "case.decide", "case 1", after=author))

    assert [entry.act for entry in await entries(database, act="queue")] == ["queue.open", "queue.close"]
    assert [entry.act for entry in await entries(database, act="queue.open")] == ["queue.open"]
    assert [entry.act for entry in await entries(database, person_id=MOD)] == ["queue.open", "queue.close"]
    (purge,) = await entries(database, person_id=ALICE)
    assert (purge.act, purge.actor_id, purge.subject_id) == ("user.purge", ADMIN, ALICE)
    assert [entry.act for entry in await entries(database, person_id=BOB)] == ["case.decide"]
    assert await entries(database, person_id=99) == ()
    assert await entries(database, since=datetime.now(UTC) + timedelta(minutes=1)) == ()
    assert len(await entries(database, since=datetime.now(UTC) - timedelta(minutes=1))) == 5
    assert await AuditLog(database).acts(OTHER_GUILD) == ("queue.clear",)


async def test_whoever_is_forgotten_is_nobody_in_a_log_that_stays_whole(database: Database) -> None:
    await write(database, "queue.close")
    async with database.write() as connection:
        await audit.forget(connection, MOD)
    await write(database, "queue.open")

    newer, older = await entries(database)
    assert (older.actor_id, newer.actor_id) == (None, MOD)
    assert [entry.act for entry in await entries(database, person_id=MOD)] == ["queue.open"]
    assert await first_broken(database) is None


async def test_each_row_of_the_csv_proves_its_own_hash(database: Database) -> None:
    await Servers(database).change(GUILD, ADMIN, "settings.retention", retention_days=30)
    await write(database, "queue.close")
    await write(database, "queue.clear", guild=OTHER_GUILD)

    rows = list(csv.DictReader(io.StringIO((await AuditLog(database).export(Wanted(GUILD))).decode())))

    assert [(row["act"], row["actor_id"]) for row in rows] == [("settings.retention", "2"), ("queue.close", "1")]
    assert (rows[0]["before"], rows[0]["after"]) == ('{"retention_days": null}', '{"retention_days": 30}')
    for row in rows:
        columns = {**row, "guild_id": int(row["guild_id"]), "at": datetime.fromisoformat(row["at"])}
        empty_as_null = {name: value if value != "" else None for name, value in columns.items()}
        assert audit.digest(empty_as_null) == row["hash"]


async def test_what_managers_do_is_written_down_with_what_was_and_what_is(database: Database) -> None:
    closures, checkpoints, changes = Closures(database), Checkpoints(database), Changes(database)
    await closures.close(GUILD, Closure.PAUSED, Deed(GUILD, MOD, "queue.close", "queue"))
    await closures.close(GUILD, Closure.DRAINING, Deed(GUILD, MOD, "queue.close", "queue"))
    await closures.open(GUILD, Deed(GUILD, MOD, "queue.open", "queue"))
    await checkpoints.allow(GUILD, ["tiny"], Deed(GUILD, ADMIN, "checkpoint.allow", "checkpoints"))
    await checkpoints.allow(GUILD, ["tiny", "big"], Deed(GUILD, ADMIN, "checkpoint.allow", "checkpoints"))
    change = await changes.begin(
        ChangeKind.SWITCH, guild_id=GUILD, user_id=ADMIN, channel_id=5, interaction_token="t", checkpoint="tiny"
    )
    await changes.commit(change)
    await Servers(database).add_moderator_role(GUILD, ADMIN, 77)
    assert not await Servers(database).add_moderator_role(GUILD, ADMIN, 77)

    told = [(entry.act, entry.subject, entry.before, entry.after) for entry in await entries(database)]
    assert told[::-1] == [
        ("queue.close", "queue", None, '"paused"'),
        ("queue.close", "queue", '"paused"', '"draining"'),
        ("queue.open", "queue", '"draining"', None),
        ("checkpoint.allow", "checkpoints", "[]", '["tiny"]'),
        ("checkpoint.allow", "checkpoints", '["tiny"]', '["big", "tiny"]'),
        ("checkpoint.switch", "checkpoint tiny", None, '{"checkpoint": "tiny", "until": null}'),
        ("settings.role-add", "role 77", None, None),
    ]
