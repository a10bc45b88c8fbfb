"""One writer, many readers, and what a commit promises."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, func, insert, select
from sqlalchemy.exc import DBAPIError

from bot.errors import AlreadyRunning, SettingsError
from bot.settings import Settings
from bot.storage.session import Database, database_url
from bot.storage.tables import guilds, metadata
from tests.bot.databases import EITHER_DATABASE, PostgresServer

BOUND = 10.0


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    await database.upgrade()
    yield database
    await database.close()


def files_of(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def count(database: Database) -> int:
    async with database.read() as connection:
        return await connection.scalar(select(func.count()).select_from(guilds)) or 0


@EITHER_DATABASE
async def test_an_upgrade_can_be_repeated_and_keeps_what_is_there(database: Database) -> None:
    async with database.write() as connection:
        await connection.execute(insert(guilds).values(id=1))
    await database.upgrade()
    assert await count(database) == 1


async def test_a_missing_folder_is_made(tmp_path: Path) -> None:
    database = Database(f"sqlite+aiosqlite:///{tmp_path / 'folder' / 'imagine.db'}")
    await database.upgrade()
    assert await count(database) == 0
    await database.close()


async def test_an_upgrade_works_from_any_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    database = Database("sqlite+aiosqlite:///here.db")
    await database.upgrade()
    assert await count(database) == 0
    await database.close()


@EITHER_DATABASE
async def test_the_migrations_make_exactly_the_tables_that_the_code_uses(database: Database) -> None:
    def differences(connection: Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), metadata))

    async with database.altering() as connection:
        assert await connection.run_sync(differences) == []


async def test_a_second_bot_on_a_postgresql_database_is_turned_away(postgres: PostgresServer) -> None:
    url = postgres.new_database()
    first, second = Database(url), Database(url)
    async with first.exclusively():
        with pytest.raises(AlreadyRunning, match="Another Imagine Bot is using the database"):
            async with second.exclusively(patience=0):
                pytest.fail("two bots on one database")
    async with second.exclusively():
        pass


async def test_a_commit_is_on_disk_before_it_returns(database: Database) -> None:
    async with database.write() as connection:
        pragmas = [
            (await connection.exec_driver_sql(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "synchronous", "busy_timeout", "foreign_keys")
        ]
    assert pragmas == ["wal", 2, 5000, 1]


@EITHER_DATABASE
async def test_a_reader_cannot_write(database: Database) -> None:
    with pytest.raises(DBAPIError, match=r"readonly|read-only"):
        async with database.read() as connection:
            await connection.execute(insert(guilds).values(id=1))


@EITHER_DATABASE
async def test_a_reader_sees_the_last_commit_without_waiting_for_the_writer(database: Database) -> None:
    async with database.write() as connection:
        await connection.execute(insert(guilds).values(id=1))
        assert await asyncio.wait_for(count(database), BOUND) == 0
    assert await count(database) == 1


@EITHER_DATABASE
async def test_a_reader_sees_one_moment_whatever_is_written_meanwhile(database: Database) -> None:
    async with database.read() as connection:
        before = await connection.scalar(select(func.count()).select_from(guilds))
        async with database.write() as writer:
            await writer.execute(insert(guilds).values(id=1))
        after = await connection.scalar(select(func.count()).select_from(guilds))
    assert (before, after, await count(database)) == (0, 0, 1)


async def test_postgresql_needs_its_extra_and_no_more_than_its_usual_url(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "postgresql://bot@db/imagine"
    assert Database(url).url.drivername == "postgresql+psycopg"
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(SettingsError, match=r"install it by `pip install 'imagine-bot\[postgres\]'`"):
        Database(url)


@EITHER_DATABASE
async def test_a_block_that_raises_leaves_nothing_behind(database: Database) -> None:
    with pytest.raises(ZeroDivisionError):
        async with database.write() as connection:
            await connection.execute(insert(guilds).values(id=1))
            raise ZeroDivisionError
    assert await count(database) == 0


@EITHER_DATABASE
async def test_many_writers_at_once_each_get_their_turn(database: Database) -> None:
    async def write(guild_id: int) -> None:
        async with database.write() as connection:
            await connection.execute(insert(guilds).values(id=guild_id))

    await asyncio.wait_for(asyncio.gather(*(write(guild_id) for guild_id in range(60))), BOUND)
    assert await count(database) == 60


async def test_a_transaction_has_the_database_from_its_first_statement_on(database: Database, tmp_path: Path) -> None:
    stranger = sqlite3.connect(tmp_path / "imagine.db", timeout=0)
    async with database.write() as connection:
        await connection.execute(select(guilds))
        # Had the stranger written here, the insert below would fail halfway and no waiting would help.
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            stranger.execute("INSERT INTO guilds (id) VALUES (1)")
        await connection.execute(insert(guilds).values(id=2))
    stranger.close()


@EITHER_DATABASE
async def test_a_writer_cancelled_halfway_leaves_nothing_and_frees_its_turn(database: Database) -> None:
    begun = asyncio.Event()

    async def write_and_hang() -> None:
        async with database.write() as connection:
            await connection.execute(insert(guilds).values(id=1))
            begun.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(write_and_hang())
    await asyncio.wait_for(begun.wait(), BOUND)
    task.cancel()
    await asyncio.wait([task], timeout=BOUND)

    async with asyncio.timeout(BOUND), database.write() as connection:
        await connection.execute(insert(guilds).values(id=2))
    assert await count(database) == 1


@EITHER_DATABASE
async def test_writers_cancelled_at_any_moment_never_block_the_next_one(database: Database) -> None:
    async def write(guild_id: int) -> None:
        async with database.write() as connection:
            await connection.execute(insert(guilds).values(id=guild_id))

    for turns in range(25):  # how far the writer gets before it is cancelled
        task = asyncio.create_task(write(turns))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task], timeout=BOUND)
        await asyncio.wait_for(write(1000 + turns), BOUND)
    assert await count(database) >= 25


async def test_closing_folds_the_log_into_the_file(tmp_path: Path) -> None:
    database = Database(f"sqlite+aiosqlite:///{tmp_path / 'imagine.db'}")
    await database.upgrade()
    async with database.write() as connection:
        await connection.execute(insert(guilds).values(id=1))
    assert await count(database) == 1
    await database.close()
    assert files_of(tmp_path) == ["imagine.db"]


def test_the_database_lies_in_the_data_folder_unless_the_operator_says_otherwise(tmp_path: Path) -> None:
    assert database_url(Settings(data_dir=tmp_path)) == f"sqlite:///{tmp_path}/imagine.db"
    assert database_url(Settings(database_url="postgresql+psycopg://db/bot")) == "postgresql+psycopg://db/bot"
