"""The checkpoints an engine ever offered, so that they have names and defaults while it is still starting."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec
from sqlalchemy import select

from bot.storage import tables
from bot.storage.session import Database
from t2i.api import CheckpointInfo


class Checkpoints:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def record(self, offered: Iterable[CheckpointInfo]) -> None:
        """Remember what an engine offers now; what it no longer offers is forgotten."""
        table, now = tables.checkpoints, datetime.now(UTC)
        rows = [{"name": info.name, "info": msgspec.json.encode(info).decode(), "seen_at": now} for info in offered]
        async with self._database.write() as connection:
            await connection.execute(table.delete())
            if rows:
                await connection.execute(table.insert(), rows)

    async def all(self) -> tuple[CheckpointInfo, ...]:
        """By name."""
        async with self._database.read() as connection:
            found = await connection.scalars(select(tables.checkpoints.c.info).order_by(tables.checkpoints.c.name))
            return tuple(msgspec.json.decode(info, type=CheckpointInfo) for info in found)

    async def get(self, name: str) -> CheckpointInfo | None:
        table = tables.checkpoints
        async with self._database.read() as connection:
            info = await connection.scalar(select(table.c.info).where(table.c.name == name))
        return None if info is None else msgspec.json.decode(info, type=CheckpointInfo)

    async def of_guild(self, guild_id: int | None) -> str | None:
        """The checkpoint that server chose, or None."""
        table = tables.guilds
        async with self._database.read() as connection:
            name: str | None = await connection.scalar(select(table.c.checkpoint).where(table.c.id == guild_id))
        return name

    async def choose(self, guild_id: int, name: str | None) -> None:
        """Make it that server's default; None goes back to the bot's own."""
        statement = self._database.insert(tables.guilds).values(id=guild_id, checkpoint=name)
        async with self._database.write() as connection:
            await connection.execute(
                statement.on_conflict_do_update(
                    index_elements=["id"], set_={"checkpoint": statement.excluded.checkpoint}
                )
            )
