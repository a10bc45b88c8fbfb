"""Reading the audit log: searching it, handing it out as CSV, and saying whether it is whole."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Row, Select, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.elements import ColumnElement

from bot.moderation.audit import Deed, append, first_broken
from bot.storage import tables
from bot.storage.session import Database

_audit, _pseudonyms = tables.audit, tables.pseudonyms

COLUMNS = ("id", "at", "guild_id", "actor", "act", "subject", "before", "after", "previous_hash", "hash")
"""Of the CSV, after which comes who the actor is: with these the hash of each row can be computed anew."""
PERSON = "person "
"""What stands before the pseudonym of a subject that is somebody."""


@dataclass(frozen=True, slots=True)
class Entry:
    id: int
    at: datetime
    actor_id: int | None
    """None when they were erased since."""
    act: str
    subject: str
    subject_id: int | None
    """The user whom the subject names, if it names one who is still known."""
    before: str | None
    """JSON, as is `after`."""
    after: str | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which entries of a server; None means any."""

    guild_id: int
    act: str | None = None
    """The whole of it, or the area before its dot."""
    person_id: int | None = None
    """Who did it, or whom it was done to."""
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Check:
    entries: int
    first_broken: int | None
    """The id of the first entry that was changed or stands where another was taken out; None when all is whole."""
    newest: str | None
    """The hash of the last entry: whoever keeps it sees later whether the end of the log was cut off."""
    known: bool
    """Whether the log still holds the hash that was asked about."""


class AuditLog:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def record(self, deed: Deed) -> None:
        """For what has no transaction of its own, such as files that the engine deleted."""
        async with self._database.write() as connection:
            await append(connection, self._database, deed)

    async def search(self, wanted: Wanted, *, limit: int) -> tuple[tuple[Entry, ...], int]:
        """The newest of them first, and how many there are."""
        async with self._database.read() as connection:
            condition = await _condition(connection, wanted)
            count = await connection.scalar(select(func.count()).select_from(_audit).where(condition))
            newest = select(_audit).where(condition).order_by(_audit.c.id.desc()).limit(limit)
            rows = (await connection.execute(newest)).all()
            people = await _people(connection, rows)
            return tuple(_entry(row, people) for row in rows), count or 0

    async def acts(self, guild_id: int) -> tuple[str, ...]:
        """Every act that the server's log knows."""
        there = select(_audit.c.act).where(_audit.c.guild_id == guild_id).distinct().order_by(_audit.c.act)
        async with self._database.read() as connection:
            return tuple(await connection.scalars(there))

    async def export(self, wanted: Wanted) -> bytes:
        """CSV in UTF-8, oldest first."""
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow((*COLUMNS, "actor_id"))
        async with self._database.read() as connection:
            rows = (await connection.execute(await _select(connection, wanted))).all()
            people = await _people(connection, rows)
        for row in rows:
            values = [getattr(row, name) for name in COLUMNS]
            values[COLUMNS.index("at")] = row.at.isoformat()
            writer.writerow((*values, people.get(row.actor, "")))
        return text.getvalue().encode()

    async def verify(self, guild_id: int, known: str | None = None) -> Check:
        """Read the whole log, every server's: one chain runs through all of it."""
        mine = _audit.c.guild_id == guild_id
        newest = select(_audit.c.hash).order_by(_audit.c.id.desc()).limit(1)
        async with self._database.read() as connection:
            return Check(
                entries=await connection.scalar(select(func.count()).select_from(_audit).where(mine)) or 0,
                first_broken=await first_broken(connection),
                newest=await connection.scalar(newest),
                known=known is None
                or await connection.scalar(select(_audit.c.id).where(_audit.c.hash == known)) is not None,
            )


async def _select(connection: AsyncConnection, wanted: Wanted) -> Select[tuple[object, ...]]:
    return select(_audit).where(await _condition(connection, wanted)).order_by(_audit.c.id)


async def _condition(connection: AsyncConnection, wanted: Wanted) -> ColumnElement[bool]:
    condition = _audit.c.guild_id == wanted.guild_id
    if wanted.act is not None:
        condition &= or_(_audit.c.act == wanted.act, _audit.c.act.startswith(f"{wanted.act}.", autoescape=True))
    if wanted.since is not None:
        condition &= _audit.c.at >= wanted.since
    if wanted.person_id is not None:
        mine = select(_pseudonyms.c.pseudonym).where(_pseudonyms.c.user_id == wanted.person_id)
        pseudonym = await connection.scalar(mine) or "nobody"
        condition &= concerns(pseudonym)
    return condition


def concerns(pseudonym: str) -> ColumnElement[bool]:
    """Somebody did it, or it was done to them or decided about what they had drawn."""
    return or_(_audit.c.actor == pseudonym, _audit.c.subject == PERSON + pseudonym, _audit.c.after.contains(pseudonym))


async def _people(connection: AsyncConnection, rows: Iterable[Row[tuple[object, ...]]]) -> dict[str, int]:
    """User ids by pseudonym, of those who are still known."""
    names = {name for row in rows for name in (row.actor, str(row.subject).removeprefix(PERSON))}
    found: dict[str, int] = {}
    for batch in _batches(sorted(names)):
        known = await connection.execute(select(_pseudonyms).where(_pseudonyms.c.pseudonym.in_(batch)))
        found |= {row.pseudonym: row.user_id for row in known}
    return found


def _batches(names: Sequence[str], size: int = 500) -> Iterable[Sequence[str]]:
    return (names[start : start + size] for start in range(0, len(names), size))


def _entry(row: Row[tuple[object, ...]], people: dict[str, int]) -> Entry:
    return Entry(
        id=row.id,
        at=row.at,
        actor_id=people.get(row.actor),
        act=row.act,
        subject=row.subject,
        subject_id=people.get(row.subject.removeprefix(PERSON)) if row.subject.startswith(PERSON) else None,
        before=row.before,
        after=row.after,
    )
