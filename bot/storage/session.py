"""The database: one writer, many readers, and the upgrade to the newest schema.

SQLite gets one writer connection that begins every transaction with BEGIN IMMEDIATE, so writers queue up in this
process and never meet SQLITE_BUSY halfway, and a pool of `query_only` readers that see the last commit. With
synchronous=FULL a commit that returned survives a power cut. PostgreSQL uses one ordinary pool for both; its readers
are read-only and repeatable, so that they too see one moment.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import URL, Connection, NullPool, Table, event, func, make_url, select
from sqlalchemy.dialects.postgresql import Insert as PostgreSQLInsert
from sqlalchemy.dialects.sqlite import Insert as SQLiteInsert
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from bot.errors import AlreadyRunning, SettingsError
from bot.settings import Settings
from bot.storage import sqlite

_READERS = 4
_LOCK = 0x1A61E  # any number, the same for every instance
_DURABLE = {"journal_mode": "WAL", "synchronous": "FULL", "busy_timeout": "5000"}
_WRITER = _DURABLE | {"foreign_keys": "ON"}
_READER = _DURABLE | {"query_only": "ON", "wal_autocheckpoint": "0"}


def database_url(settings: Settings) -> str:
    """The operator's SQLAlchemy URL, or a SQLite file in the data folder."""
    return settings.database_url or f"sqlite:///{settings.data_dir / 'imagine.db'}"


# Interaction tokens travel as parameters: aiosqlite would log them at DEBUG, SQLAlchemy in errors (hide_parameters).
logging.getLogger("aiosqlite").setLevel(logging.INFO)


class Database:
    """Transactions on one database, given by its SQLAlchemy URL (`sqlite://` or `postgresql://`).

    Raises SettingsError for any other, or when the driver for PostgreSQL, an extra, is not installed.
    """

    def __init__(self, url: str) -> None:
        self.url = _parsed(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.url = self.url.set(drivername="sqlite+aiosqlite" if self.is_sqlite else "postgresql+psycopg")
        self._writer: AsyncEngine
        self._reader: AsyncEngine
        if self.is_sqlite:
            self._writer = self._sqlite_engine(_WRITER, begin="BEGIN IMMEDIATE", pool_size=1, max_overflow=0)
            self._reader = self._sqlite_engine(_READER, begin="BEGIN", pool_size=_READERS, max_overflow=0)
        else:
            self._writer = self._postgresql_engine(pool_pre_ping=True)
            self._reader = self._writer.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)

    def write(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """One transaction, committed when the block ends and rolled back when it raises."""
        return self._writer.begin()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """One consistent view of what is committed; waits for no writer."""
        async with self._reader.connect() as connection:
            yield connection

    def insert(self, table: Table) -> SQLiteInsert | PostgreSQLInsert:
        """INSERT with ON CONFLICT, which both databases spell alike."""
        return SQLiteInsert(table) if self.is_sqlite else PostgreSQLInsert(table)

    async def upgrade(self) -> None:
        """Create the schema or bring it to the newest migration, all or nothing."""
        async with self.altering() as connection:
            await connection.run_sync(_upgrade_to_head)

    @asynccontextmanager
    async def altering(self) -> AsyncIterator[AsyncConnection]:
        """One transaction that may change the schema."""
        if self.is_sqlite:
            Path(self.url.database or "").parent.mkdir(parents=True, exist_ok=True)
            # Without foreign_keys: a batch migration makes a table anew, and dropping the old one would cascade.
            engine = self._sqlite_engine(_DURABLE, begin="BEGIN IMMEDIATE", poolclass=NullPool)
        else:
            engine = self._postgresql_engine(poolclass=NullPool)
        async with engine.begin() as connection:
            yield connection

    @asynccontextmanager
    async def exclusively(self, *, patience: float = 5.0) -> AsyncIterator[None]:
        """Be the only bot on this database until the block or the process ends.

        A SQLite file lies in the data folder, which `lock.exclusive` holds; a PostgreSQL server is told. It may take a
        moment to notice that a bot was killed: raises AlreadyRunning when one is there after `patience` seconds.
        """
        if self.is_sqlite:
            yield
            return
        engine = self._postgresql_engine(poolclass=NullPool, isolation_level="AUTOCOMMIT")
        async with engine.connect() as connection:
            deadline = time.monotonic() + patience
            while not await connection.scalar(select(func.pg_try_advisory_lock(_LOCK))):
                if time.monotonic() >= deadline:
                    raise AlreadyRunning(
                        "Another Imagine Bot is using the database of IMAGINE_DATABASE_URL; "
                        "stop it first or name another."
                    )
                await asyncio.sleep(0.1)
            yield

    async def close(self) -> None:
        """Close every connection; SQLite's writer goes last and folds the write-ahead log into the file."""
        await self._reader.dispose()
        await self._writer.dispose()

    def _postgresql_engine(self, **options: Any) -> AsyncEngine:
        try:
            return create_async_engine(self.url, hide_parameters=True, **options)
        except ModuleNotFoundError:
            raise SettingsError(
                "IMAGINE_DATABASE_URL names a PostgreSQL database, whose driver is missing: "
                "install it by `pip install 'imagine-bot[postgres]'`."
            ) from None

    def _sqlite_engine(self, pragmas: dict[str, str], *, begin: str, **pool: Any) -> AsyncEngine:
        # isolation_level=None stops the driver from opening transactions by itself.
        driver = {"isolation_level": None, "async_creator_fn": sqlite.connect}
        engine = create_async_engine(self.url, connect_args=driver, hide_parameters=True, **pool)

        @event.listens_for(engine.sync_engine, "connect")
        def set_pragmas(connection: Any, _record: object) -> None:
            cursor = connection.cursor()
            for name, value in pragmas.items():
                cursor.execute(f"PRAGMA {name}={value}")
            cursor.close()

        @event.listens_for(engine.sync_engine, "begin")
        def begin_transaction(connection: Connection) -> None:
            driver = connection.connection.driver_connection
            assert isinstance(driver, sqlite.Connection), "a connection that begins a transaction is open"
            driver.begin(begin)

        return engine


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        parsed = None
    if parsed is None or parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise SettingsError(  # without what was given, which may hold a password
            "IMAGINE_DATABASE_URL is not the address of a PostgreSQL or SQLite database, such as "
            "postgresql://user:password@host/imagine."
        )
    return parsed


def _migrations() -> Path:
    """Beside this file in an installed wheel, at the top of the repository in a checkout."""
    packaged = Path(__file__).parent / "migrations"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "migrations"


def _upgrade_to_head(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(_migrations()))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
