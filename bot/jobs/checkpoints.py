"""The checkpoints an engine offers, which of them a server draws with, and among which its members may choose."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import msgspec
from sqlalchemy import func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.jobs.model import JobState
from bot.jobs.rows import in_state
from bot.jobs.together import Together
from bot.moderation import audit
from bot.moderation.audit import Deed
from bot.storage import tables
from bot.storage.session import Database
from t2i.api import CheckpointInfo

_guilds, _allowed = tables.guilds, tables.allowed_checkpoints


@dataclass(frozen=True, slots=True)
class Choice:
    """What a server draws with: `checkpoint`, where None is the bot's own default, or `temporary` as long as that is
    set, which is `until` a moment to come."""

    checkpoint: str | None = None
    temporary: str | None = None
    until: datetime | None = None

    @property
    def current(self) -> str | None:
        return self.temporary or self.checkpoint


@dataclass(frozen=True, slots=True)
class Uses:
    """Who would miss a checkpoint: servers that chose it, and jobs that are not drawn yet."""

    guilds: int
    jobs: int


class Checkpoints:
    """Names and defaults are kept, so that they are known while an engine is still starting."""

    def __init__(self, database: Database) -> None:
        self._database = database
        # Every press asks for these; those that come at once are answered by one look.
        self._offered: Together[None, tuple[CheckpointInfo, ...]] = Together(self._read_offered)
        self._choices: Together[int | None, Choice] = Together(self._read_choices)
        self._allowances: Together[int | None, frozenset[str]] = Together(self._read_allowances)

    async def record(self, offered: Iterable[CheckpointInfo]) -> None:
        """Remember what an engine offers now; what it no longer offers is forgotten."""
        table, now = tables.checkpoints, datetime.now(UTC)
        rows = [{"name": info.name, "info": msgspec.json.encode(info).decode(), "seen_at": now} for info in offered]
        async with self._database.write() as connection:
            await connection.execute(table.delete())
            if rows:
                await connection.execute(table.insert(), rows)

    async def all(self) -> tuple[CheckpointInfo, ...]:
        """By name; empty only until an engine has started for the very first time."""
        return await self._offered.ask(None)

    async def _read_offered(self, askers: Sequence[None]) -> list[tuple[CheckpointInfo, ...]]:
        async with self._database.read() as connection:
            found = await connection.scalars(select(tables.checkpoints.c.info).order_by(tables.checkpoints.c.name))
            offered = tuple(msgspec.json.decode(info, type=CheckpointInfo) for info in found)
        return [offered] * len(askers)

    async def get(self, name: str) -> CheckpointInfo | None:
        return next((info for info in await self.all() if info.name == name), None)

    async def uses(self, name: str) -> Uses:
        chosen = or_(_guilds.c.checkpoint == name, (_guilds.c.temporary_checkpoint == name) & _lasts())
        undrawn = (tables.jobs.c.checkpoint == name) & in_state(JobState.QUEUED, JobState.RUNNING)
        async with self._database.read() as connection:
            guilds = await connection.scalar(select(func.count()).select_from(_guilds).where(chosen))
            jobs = await connection.scalar(select(func.count()).select_from(tables.jobs).where(undrawn))
        return Uses(guilds or 0, jobs or 0)

    # --- a server's choice ----------------------------------------------------------------------------------------

    async def of_guild(self, guild_id: int | None) -> Choice:
        return await self._choices.ask(guild_id)

    async def _read_choices(self, guild_ids: Sequence[int | None]) -> list[Choice]:
        async with self._database.read() as connection:
            choices = {guild_id: await choice_of(connection, guild_id) for guild_id in set(guild_ids)}
        return [choices[guild_id] for guild_id in guild_ids]

    async def choose(self, guild_id: int, name: str | None, until: datetime | None = None) -> None:
        """Make it that server's default, or what it draws with until then; None goes back to the bot's own."""
        async with self._database.write() as connection:
            await choose(connection, self._database, guild_id, name, until)

    async def allowed(self, guild_id: int | None) -> frozenset[str]:
        """What members of the server may draw with beside its own choice; empty means everything."""
        return await self._allowances.ask(guild_id)

    async def _read_allowances(self, guild_ids: Sequence[int | None]) -> list[frozenset[str]]:
        found: dict[int | None, set[str]] = {guild_id: set() for guild_id in guild_ids}
        async with self._database.read() as connection:
            for row in await connection.execute(select(_allowed).where(_allowed.c.guild_id.in_(set(guild_ids)))):
                found[row.guild_id].add(row.checkpoint)
        return [frozenset(found[guild_id]) for guild_id in guild_ids]

    async def allow(self, guild_id: int, names: Iterable[str], deed: Deed | None = None) -> None:
        """Let the server's members draw with these only; with none given, with everything."""
        rows = [{"guild_id": guild_id, "checkpoint": name} for name in sorted(set(names))]
        async with self._database.write() as connection:
            gone = _allowed.delete().where(_allowed.c.guild_id == guild_id).returning(_allowed.c.checkpoint)
            before = sorted(await connection.scalars(gone))
            if rows:
                await connection.execute(_allowed.insert(), rows)
            if deed is not None:
                after = [row["checkpoint"] for row in rows]
                await audit.append(connection, self._database, replace(deed, before=before, after=after))


def _lasts() -> object:
    return _guilds.c.temporary_until > datetime.now(UTC)


async def choice_of(connection: AsyncConnection, guild_id: int | None) -> Choice:
    """A choice for a while ends by itself: from then on it is as if it had never been."""
    row = (await connection.execute(select(_guilds).where(_guilds.c.id == guild_id))).one_or_none()
    if row is None:
        return Choice()
    if row.temporary_until is None or row.temporary_until <= datetime.now(UTC):
        return Choice(row.checkpoint)
    return Choice(row.checkpoint, row.temporary_checkpoint, row.temporary_until)


async def choose(
    connection: AsyncConnection, database: Database, guild_id: int, name: str | None, until: datetime | None
) -> None:
    values: dict[str, object] = {"checkpoint": name, "temporary_checkpoint": None, "temporary_until": None}
    if until is not None:
        values = {"temporary_checkpoint": name, "temporary_until": until}
    statement = database.insert(_guilds).values(id=guild_id, **values)
    await connection.execute(statement.on_conflict_do_update(index_elements=["id"], set_=values))
