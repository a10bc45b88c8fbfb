"""Who may not draw in a server: timed out for a while, or banned for good. It concerns the bot and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Row, select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.elements import ColumnElement

from bot.errors import Restricted
from bot.jobs.together import Together
from bot.moderation import audit
from bot.moderation.audit import Deed
from bot.storage import tables
from bot.storage.session import Database

_restrictions = tables.restrictions


@dataclass(frozen=True, slots=True)
class Restriction:
    guild_id: int
    user_id: int
    until: datetime | None
    """None means for good."""
    reason: str
    case_id: int | None = None
    """The case that it was decided in."""

    def outlasts(self, other: Restriction) -> bool:
        return other.until is not None and (self.until is None or self.until > other.until)


class Restrictions:
    def __init__(self, database: Database) -> None:
        self._database = database
        # Every job asks; those that come at once are answered by one look.
        self._looks: Together[tuple[int, int], None] = Together(self._require_none)

    async def require_none(self, guild_id: int | None, user_id: int) -> None:
        """Raises Restricted where a moderator took the right to draw from this person; direct messages have none."""
        if guild_id is not None:
            await self._looks.ask((guild_id, user_id))

    async def _require_none(self, askers: Sequence[tuple[int, int]]) -> list[Restricted | None]:
        guilds, users = {guild_id for guild_id, _ in askers}, {user_id for _, user_id in askers}
        theirs = select(_restrictions).where(_restrictions.c.guild_id.in_(guilds), _restrictions.c.user_id.in_(users))
        async with self._database.read() as connection:
            found = {(row.guild_id, row.user_id): _in_force(row) for row in await connection.execute(theirs)}
        return [_refusal(found.get(asker)) for asker in askers]

    async def impose(self, restriction: Restriction, *, by: int) -> Restriction:
        """By hand, outside any case; what is in force then."""
        async with self._database.write() as connection:
            return await impose(connection, self._database, restriction, by=by)

    async def lift(self, guild_id: int, user_id: int, *, by: int) -> bool:
        """False when there was none."""
        async with self._database.write() as connection:
            return await lift(connection, self._database, guild_id, user_id, by=by)


async def in_force(connection: AsyncConnection, guild_id: int, user_id: int) -> Restriction | None:
    row = (await connection.execute(select(_restrictions).where(_is(guild_id, user_id)))).one_or_none()
    return None if row is None else _in_force(row)


async def impose(connection: AsyncConnection, database: Database, restriction: Restriction, *, by: int) -> Restriction:
    """Restrict somebody in the transaction that decides it; a longer restriction stays. Returns what is in force."""
    before = await in_force(connection, restriction.guild_id, restriction.user_id)
    if before is not None and not restriction.outlasts(before):
        return before
    values = {
        "until": restriction.until,
        "reason": restriction.reason,
        "case_id": restriction.case_id,
        "created_at": datetime.now(UTC),
    }
    statement = database.insert(_restrictions).values(
        guild_id=restriction.guild_id, user_id=restriction.user_id, **values
    )
    await connection.execute(statement.on_conflict_do_update(index_elements=["guild_id", "user_id"], set_=values))
    subject = f"person {await audit.pseudonym(connection, database, restriction.user_id)}"
    deed = Deed(restriction.guild_id, by, "user.restrict", subject, before=_told(before), after=_told(restriction))
    await audit.append(connection, database, deed)
    return restriction


async def lift(
    connection: AsyncConnection, database: Database, guild_id: int, user_id: int, *, by: int, case_id: int | None = None
) -> bool:
    """Lift what is in force, with `case_id` only if that case imposed it. False when nothing was lifted."""
    before = await in_force(connection, guild_id, user_id)
    if before is None or (case_id is not None and before.case_id != case_id):
        return False
    await connection.execute(_restrictions.delete().where(_is(guild_id, user_id)))
    subject = f"person {await audit.pseudonym(connection, database, user_id)}"
    deed = Deed(guild_id, by, "user.unrestrict", subject, before=_told(before))
    await audit.append(connection, database, deed)
    return True


def _in_force(row: Row[tuple[object, ...]]) -> Restriction | None:
    if row.until is not None and row.until <= datetime.now(UTC):
        return None
    return Restriction(row.guild_id, row.user_id, row.until, row.reason, row.case_id)


def _refusal(restriction: Restriction | None) -> Restricted | None:
    if restriction is None:
        return None
    return Restricted(f"You may not draw in this server {_how_long(restriction)}: {restriction.reason}")


def _told(restriction: Restriction | None) -> dict[str, str | int | None] | None:
    if restriction is None:
        return None
    until = restriction.until.isoformat() if restriction.until else "for good"
    return {"until": until, "case": restriction.case_id}


def _how_long(restriction: Restriction) -> str:
    if restriction.until is None:
        return "any more"
    return f"until <t:{int(restriction.until.timestamp())}:f>"


def _is(guild_id: int, user_id: int) -> ColumnElement[bool]:
    return (_restrictions.c.guild_id == guild_id) & (_restrictions.c.user_id == user_id)
