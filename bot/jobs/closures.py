"""Queues that moderators closed, kept in the database so that a restart opens none."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import func, literal, select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.elements import ColumnElement

from bot.jobs.model import Closure
from bot.moderation import audit
from bot.moderation.audit import Deed
from bot.storage import tables
from bot.storage.session import Database

EVERYWHERE = 0
"""In place of a server's id: all servers and direct messages."""

_closures = tables.closures


class Closures:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def close(self, guild_id: int, closure: Closure, deed: Deed | None = None) -> None:
        """Pause or drain a server's queue, or all with EVERYWHERE, until `open`."""
        statement = self._database.insert(_closures).values(guild_id=guild_id, closure=closure)
        async with self._database.write() as connection:
            before = await _closure_of(connection, guild_id)
            await connection.execute(
                statement.on_conflict_do_update(index_elements=["guild_id"], set_={"closure": closure})
            )
            if deed is not None:
                await audit.append(connection, self._database, replace(deed, before=before, after=closure))

    async def open(self, guild_id: int, deed: Deed | None = None) -> None:
        async with self._database.write() as connection:
            before = await _closure_of(connection, guild_id)
            await connection.execute(_closures.delete().where(_closures.c.guild_id == guild_id))
            if deed is not None:
                await audit.append(connection, self._database, replace(deed, before=before))

    async def of(self, guild_id: int | None) -> dict[int, Closure]:
        """What holds for a server's queue: its own closure and that of EVERYWHERE, where there are any."""
        async with self._database.read() as connection:
            here = select(_closures).where(_closures.c.guild_id.in_((EVERYWHERE, guild_id or EVERYWHERE)))
            return {row.guild_id: Closure(row.closure) for row in await connection.execute(here)}


async def _closure_of(connection: AsyncConnection, guild_id: int) -> str | None:
    return await connection.scalar(select(_closures.c.closure).where(_closures.c.guild_id == guild_id))


async def closed_servers(connection: AsyncConnection, closure: Closure) -> set[int]:
    """Those whose queue is closed so, EVERYWHERE among them."""
    return set(await connection.scalars(select(_closures.c.guild_id).where(_closures.c.closure == closure)))


def not_paused() -> ColumnElement[bool]:
    """The jobs that no pause holds back."""
    paused = select(_closures.c.guild_id).where(_closures.c.closure == Closure.PAUSED)
    here = func.coalesce(tables.jobs.c.guild_id, EVERYWHERE)
    return here.not_in(paused) & literal(EVERYWHERE).not_in(paused)
