"""What checkpoints were measured to need on this machine, by their hashes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import select

from bot.storage import tables
from bot.storage.session import Database

_measures = tables.checkpoint_measures


@dataclass(frozen=True, slots=True)
class Measure:
    seconds: float
    """For one picture with the checkpoint's own defaults."""
    memory: int | None
    """Bytes of weights on the device."""


class Measures:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def record(self, sha256: str, measure: Measure) -> None:
        values = {"seconds": measure.seconds, "memory": measure.memory, "measured_at": datetime.now(UTC)}
        statement = self._database.insert(_measures).values(sha256=sha256, **values)
        async with self._database.write() as connection:
            await connection.execute(statement.on_conflict_do_update(index_elements=["sha256"], set_=values))

    async def of(self, sha256: str) -> Measure | None:
        async with self._database.read() as connection:
            row = (await connection.execute(select(_measures).where(_measures.c.sha256 == sha256))).one_or_none()
        return None if row is None else Measure(row.seconds, row.memory)
