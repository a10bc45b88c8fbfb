"""How often SQLite's connections hop between threads, and what becomes of a statement whose asker was cancelled."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select, text

from bot.storage import sqlite
from bot.storage.session import Database
from bot.storage.tables import guilds

BOUND = 10.0


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(f"sqlite+aiosqlite:///{tmp_path / 'imagine.db'}")
    await database.upgrade()
    async with database.write() as connection:
        await connection.execute(insert(guilds).values(id=1))
    yield database
    await database.close()


@pytest.fixture
def hops(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Grows with each."""
    made: list[None] = []
    hop = sqlite.Connection._execute

    def counted(*args: Any, **options: Any) -> Any:
        made.append(None)
        return hop(*args, **options)  # type: ignore[no-untyped-call]

    monkeypatch.setattr(sqlite.Connection, "_execute", counted)
    return made


async def test_a_look_is_one_hop(database: Database, hops: list[None]) -> None:
    async with database.read() as connection:
        assert (await connection.execute(select(guilds.c.id))).scalar_one() == 1
    hops.clear()
    async with database.read() as connection:
        assert (await connection.execute(select(guilds.c.id))).scalar_one() == 1
    assert len(hops) == 1


async def test_a_change_is_one_hop_and_its_commit_another(database: Database, hops: list[None]) -> None:
    async with database.write() as connection:
        await connection.execute(insert(guilds).values(id=2))
    assert len(hops) == 2


async def test_a_transaction_without_statements_never_begins(database: Database, hops: list[None]) -> None:
    async with database.write():
        pass
    assert not hops
    async with database.write() as connection:
        await connection.execute(insert(guilds).values(id=2))


@pytest.fixture
async def driver(tmp_path: Path) -> AsyncIterator[sqlite.Connection]:
    driver = await sqlite.connect(str(tmp_path / "things.db"), isolation_level=None, timeout=0)
    await driver.cursor().execute("CREATE TABLE things (id INTEGER)")
    yield driver
    await driver.close()


@pytest.fixture
def stranger(driver: sqlite.Connection, tmp_path: Path) -> Iterator[sqlite3.Connection]:
    stranger = sqlite3.connect(tmp_path / "things.db", isolation_level=None)
    yield stranger
    stranger.close()


INSERT = "INSERT INTO things VALUES (1)"


async def test_a_transaction_that_could_not_begin_begins_with_the_next_statement(
    driver: sqlite.Connection, stranger: sqlite3.Connection
) -> None:
    stranger.execute("BEGIN IMMEDIATE")
    driver.begin("BEGIN IMMEDIATE")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        await driver.cursor().execute(INSERT)
    stranger.rollback()
    await driver.cursor().execute(INSERT)
    await driver.rollback()
    assert stranger.execute("SELECT * FROM things").fetchall() == []


async def test_a_statement_cancelled_before_it_began_is_undone_too(
    driver: sqlite.Connection, stranger: sqlite3.Connection
) -> None:
    may_go = threading.Event()
    before = asyncio.create_task(driver.run(lambda: may_go.wait(BOUND)))
    await asyncio.sleep(0)
    driver.begin("BEGIN IMMEDIATE")
    executing = asyncio.create_task(driver.cursor().execute(INSERT))
    await asyncio.sleep(0)
    executing.cancel()
    await asyncio.wait([executing], timeout=BOUND)
    undoing = asyncio.create_task(driver.rollback())
    await asyncio.sleep(0)
    may_go.set()
    await asyncio.wait_for(asyncio.gather(before, undoing), BOUND)
    assert stranger.execute("SELECT * FROM things").fetchall() == []


async def test_rows_outlive_their_transaction_and_nothing_stays_locked(database: Database) -> None:
    async with database.read() as connection:
        result = await connection.execute(select(guilds.c.id))
    async with database.altering() as connection:  # which a statement left open would hold up
        await connection.execute(text("CREATE TABLE later (id INTEGER)"))
    assert [row.id for row in result] == [1]


async def test_an_abandoned_statement_holds_up_nobody_else(database: Database) -> None:
    entered, may_end = threading.Event(), threading.Event()

    def hold() -> int:
        entered.set()
        return may_end.wait(BOUND)

    async def look() -> None:
        async with database.read() as connection:
            driver = (await connection.get_raw_connection()).driver_connection
            assert isinstance(driver, sqlite.Connection)
            await driver.create_function("hold", 0, hold)
            await connection.execute(text("SELECT hold()"))

    began = time.monotonic()
    looking = asyncio.create_task(look())
    await asyncio.to_thread(entered.wait, BOUND)
    looking.cancel()
    for number in range(4):  # by the readers that are left, and the writer
        async with database.write() as connection:
            await connection.execute(insert(guilds).values(id=10 + number))
        async with database.read() as connection:
            await connection.execute(select(guilds.c.id))
    assert not looking.done()
    assert time.monotonic() - began < BOUND / 2
    may_end.set()
    await asyncio.wait([looking], timeout=BOUND)
    assert looking.cancelled()
    await asyncio.gather(*(asyncio.wait_for(count(database), BOUND) for _ in range(8)))


async def count(database: Database) -> int:
    async with database.read() as connection:
        return len((await connection.execute(select(guilds.c.id))).all())
