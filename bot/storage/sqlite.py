"""SQLite with one hop between threads for each statement.

aiosqlite does everything in a thread of the connection, and each of its calls is a hop there and back, which costs many
times what a look by an index does. SQLAlchemy makes four calls for a SELECT and four more to open and end a
transaction around it; of them only what may take time, or wait for somebody, is worth a hop.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import aiosqlite

Answer = TypeVar("Answer")


def connect(database: str, **options: Any) -> Connection:
    """For SQLAlchemy's `async_creator_fn`; the options are those of sqlite3."""
    return Connection(lambda: sqlite3.connect(database, **options | {"check_same_thread": False}))


class Connection(aiosqlite.Connection):
    """Begins a transaction in the hop of its first statement, and never for one that has none."""

    def __init__(self, connector: Callable[[], sqlite3.Connection]) -> None:
        super().__init__(connector, iter_chunk_size=64)
        self._thread.daemon = True
        self._begin: str | None = None
        # What the thread was given and what it has done, each counted by one side alone.
        self._given = 0
        self._done = 0

    def begin(self, statement: str) -> None:
        """`statement` opens the transaction to which whatever is executed from now on belongs."""
        self._begin = statement

    async def run(self, work: Callable[[], Answer]) -> Answer:
        """In the connection's thread, within the transaction."""
        begin, self._begin = self._begin, None
        self._given += 1

        def counted() -> Answer:
            try:
                if begin is not None:
                    self._open(begin)
                return work()
            finally:
                self._done += 1

        answer: Answer = await self._execute(counted)  # type: ignore[no-untyped-call]
        return answer

    def _open(self, begin: str) -> None:
        try:
            self._conn.execute(begin)
        except sqlite3.Error:
            self._begin = begin  # whatever is executed next must not be outside of the transaction
            raise

    def cursor(self) -> Cursor:  # type: ignore[override]
        return Cursor(self, self._conn.cursor())

    async def commit(self) -> None:
        if self._conn.in_transaction or self._given != self._done:
            await self.run(self._conn.commit)
        self._begin = None

    async def rollback(self) -> None:
        """At once, unless there may be changes to undo or a statement is still under way, whose asker was cancelled."""
        self._begin = None
        if self._given != self._done or (self._conn.in_transaction and self._conn.total_changes):
            await self.run(self._conn.rollback)
        else:
            self._conn.rollback()


class Cursor(aiosqlite.Cursor):
    """Holds all rows of its statement as soon as it was executed, and nothing of the database any more."""

    def __init__(self, connection: Connection, cursor: sqlite3.Cursor) -> None:
        super().__init__(connection, cursor)
        self._connection = connection
        self._rows: list[Any] = []

    async def execute(self, sql: str, parameters: Iterable[Any] | None = None) -> Cursor:
        def work() -> None:
            self._cursor.execute(sql, tuple(parameters or ()))
            if self._cursor.description is not None:
                self._rows = self._cursor.fetchall()

        await self._connection.run(work)
        return self

    async def executemany(self, sql: str, parameters: Iterable[Any]) -> Cursor:
        await self._connection.run(lambda: self._cursor.executemany(sql, parameters))
        return self

    async def fetchall(self) -> list[Any]:
        rows, self._rows = self._rows, []
        return rows

    async def close(self) -> None:
        """There is nothing left to close; were its statement still under way, a close would wait for it."""
