"""The audit log: who did what, in a chain that shows whether anything was taken out or changed afterwards.

Rows name people by pseudonyms. Erasing somebody forgets whose pseudonym it was, and the chain stays whole.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.storage import tables
from bot.storage.session import Database

_audit, _pseudonyms = tables.audit, tables.pseudonyms

BEGINNING = "0" * 64
"""What stands for the hash before the first row."""
_LOCK = 0xA0D17  # of PostgreSQL, where several may write at once
_BATCH = 1000  # rows that are checked in one turn of the event loop


@dataclass(frozen=True, slots=True)
class Deed:
    """What somebody did; `before` and `after` are JSON values, without any prompt in them."""

    guild_id: int
    actor_id: int
    act: str
    """area.verb, such as "case.decide" or "queue.pause"."""
    subject: str
    """What it was done to, such as "case 12", "job 5" or somebody as `person` names them."""
    before: Any = None
    after: Any = None


async def append(connection: AsyncConnection, database: Database, deed: Deed) -> None:
    """Write it down in the transaction that does it, so that neither is ever there without the other.

    It comes last there: from here until the commit every other writer of the log waits, so whoever locked rows after
    it could wait for one of them in turn.
    """
    actor = await pseudonym(connection, database, deed.actor_id)
    newest = select(_audit.c.hash).order_by(_audit.c.id.desc()).limit(1)
    row = {
        "at": datetime.now(UTC),
        "guild_id": deed.guild_id,
        "actor": actor,
        "act": deed.act,
        "subject": deed.subject,
        "before": None if deed.before is None else json.dumps(deed.before, sort_keys=True),
        "after": None if deed.after is None else json.dumps(deed.after, sort_keys=True),
        "previous_hash": await connection.scalar(newest) or BEGINNING,
    }
    await connection.execute(_audit.insert().values(**row, hash=digest(row)))


def digest(row: dict[str, Any]) -> str:
    """SHA-256 over a row's columns but `id` and `hash`, the one of the row before among them."""
    columns = ("at", "guild_id", "actor", "act", "subject", "before", "after", "previous_hash")
    values = [row["at"].astimezone(UTC).isoformat(), *(row[name] for name in columns[1:])]
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


async def pseudonym(connection: AsyncConnection, database: Database, user_id: int) -> str:
    """What the log calls somebody, the same until they are erased."""
    if not database.is_sqlite:
        await connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
    fresh = database.insert(_pseudonyms).values(user_id=user_id, pseudonym=secrets.token_hex(8))
    await connection.execute(fresh.on_conflict_do_nothing())
    known = await connection.scalar(select(_pseudonyms.c.pseudonym).where(_pseudonyms.c.user_id == user_id))
    assert known is not None
    return str(known)


async def person(connection: AsyncConnection, database: Database, user_id: int) -> str:
    """Somebody as the subject of a deed."""
    return f"person {await pseudonym(connection, database, user_id)}"


async def forget(connection: AsyncConnection, user_id: int) -> None:
    """From now on the log says of nobody that it was them."""
    await connection.execute(_pseudonyms.delete().where(_pseudonyms.c.user_id == user_id))


async def first_broken(connection: AsyncConnection) -> int | None:
    """The id of the first row that does not fit the one before it or its own hash; None when the chain is whole."""
    previous, last = BEGINNING, 0
    while True:
        page = select(_audit).where(_audit.c.id > last).order_by(_audit.c.id).limit(_BATCH)
        rows = (await connection.execute(page)).all()
        if not rows:
            return None
        for row in rows:
            if row.previous_hash != previous or digest(dict(row._mapping)) != row.hash:
                return int(row.id)
            previous, last = row.hash, row.id
