"""Pictures that were drawn here, found again by how they look when nothing in their file says so any more."""

from __future__ import annotations

from sqlalchemy import select

from bot.jobs.model import Showing
from bot.moderation import hashes
from bot.storage import tables
from bot.storage.session import Database

NEWEST = 20_000
"""Pictures of a server that are looked through."""

_jobs, _images = tables.jobs, tables.images


class Tracing:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, guild_id: int, phash: str) -> tuple[int, int] | None:
        """The job and the index of the picture drawn in that server which looks most like the one of this hash; None
        when none looks nearly like it. What moderators removed or hold back is not found."""
        newest = (
            select(_images.c.job_id, _images.c.index, _images.c.phash)
            .join(_jobs, _jobs.c.id == _images.c.job_id)
            .where(_jobs.c.guild_id == guild_id, _images.c.phash.is_not(None))
            .where(_images.c.showing.in_([showing for showing in Showing if showing.seen]))
            .order_by(_images.c.job_id.desc())
            .limit(NEWEST)
        )
        async with self._database.read() as connection:
            rows = (await connection.execute(newest)).all()
        bits = int(phash, 16)
        found = min(((bits ^ int(row.phash, 16)).bit_count(), *row[:2]) for row in rows) if rows else None
        return None if found is None or found[0] > hashes.NEAR else (found[1], found[2])
