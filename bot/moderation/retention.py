"""Deletes what is kept no longer: after the days that a server set, after appeals are over, after a day has ended."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.elements import ColumnElement

from bot.jobs.erasing import erase_jobs
from bot.jobs.model import JobKind, JobState, Showing
from bot.jobs.rounds import Rounds
from bot.jobs.rows import in_state, used_files
from bot.moderation.cases import APPEAL_WINDOW, CaseState
from bot.moderation.privacy import FORGOTTEN
from bot.storage import tables
from bot.storage.images import ImageStore
from bot.storage.session import Database

log = logging.getLogger(__name__)

HOUR = 3600.0
"""Seconds between two looks."""
BATCH = 100
"""Jobs or pictures that go in one transaction, so that nobody waits long for it."""
LEDGER = timedelta(days=31)
"""How long it is kept who used how much GPU time, and what people were told in direct messages."""

_jobs, _images, _cases = tables.jobs, tables.images, tables.cases


class Retention(Rounds):
    """`default_days` holds where a server set nothing, and for direct messages; None keeps everything there."""

    def __init__(self, database: Database, images: ImageStore, default_days: int | None = None) -> None:
        super().__init__("retention", after_failure=HOUR)
        self._database = database
        self._images = images
        self._default_days = default_days

    async def _look(self) -> float:
        await self.look(datetime.now(UTC))
        return HOUR

    async def look(self, now: datetime) -> None:
        """Delete what has been kept long enough by then. Repeating it changes nothing."""
        settings = tables.moderation.c
        async with self._database.read() as connection:
            rows = await connection.execute(
                select(settings.guild_id, settings.retention_days).where(settings.retention_days.is_not(None))
            )
            chosen = {row.guild_id: row.retention_days for row in rows}
        limits = [(_jobs.c.guild_id == guild_id, days) for guild_id, days in chosen.items()]
        if self._default_days is not None:
            others = _jobs.c.guild_id.is_(None) | _jobs.c.guild_id.not_in(chosen)
            limits.append((others, self._default_days))
        for whose, days in limits:
            while await self._delete_jobs(whose, now - timedelta(days=days), now):
                pass
        while await self._delete_removed(now):
            pass
        async with self._database.write() as connection:
            await _end_ledgers(connection, now)

    async def _delete_jobs(self, whose: ColumnElement[bool], before: datetime, now: datetime) -> bool:
        """Prompts and the bot's own copies; messages stay, for those are the server's. Whether there may be more."""
        settled = in_state(JobState.DONE, JobState.FAILED, JobState.CANCELLED)
        old = whose & settled & (_jobs.c.created_at < before) & ~_disputed(now)
        batch = select(_jobs.c.id).where(old).order_by(_jobs.c.id).limit(BATCH)
        async with self._images.changing:
            async with self._database.write() as connection:
                ids = (await connection.scalars(batch)).all()
                erased = await erase_jobs(connection, self._database, _jobs.c.id.in_(ids), messages=False)
            await asyncio.to_thread(self._images.delete, *erased.files)
        if ids:
            log.info("%d jobs were kept long enough and are deleted.", len(ids))
        return len(ids) == BATCH

    async def _delete_removed(self, now: datetime) -> bool:
        """Files of pictures that nobody may see and no appeal can bring back; the row still says so."""
        over = (
            (_images.c.showing == Showing.REMOVED)
            & (_images.c.sha256 != "")
            & (_jobs.c.finished_at < now - APPEAL_WINDOW)
            & ~_disputed(now)
        )
        batch = select(_images).join(_jobs, _jobs.c.id == _images.c.job_id).where(over).limit(BATCH)
        async with self._images.changing:
            async with self._database.write() as connection:
                rows = (await connection.execute(batch)).all()
                for row in rows:
                    mine = (_images.c.job_id == row.job_id) & (_images.c["index"] == row._mapping["index"])
                    emptied = update(_images).where(mine).values(sha256="", latents_sha256="", phash=None)
                    await connection.execute(emptied)
                files = {name for row in rows for name in (row.sha256, row.latents_sha256)}
                unused = files - await used_files(connection, files)
            await asyncio.to_thread(self._images.delete, *unused)
        return len(rows) == BATCH


def _disputed(now: datetime) -> ColumnElement[bool]:
    """A case about the job, or the one it is an upscale of, is open or decided so lately that it can be appealed."""
    fresh = (_cases.c.state == CaseState.OPEN) | (_cases.c.decided_at > now - APPEAL_WINDOW)
    upscaled = (_jobs.c.kind == JobKind.UPSCALE) & (_cases.c.job_id == _jobs.c.parent_id)
    return select(_cases.c.id).where((_cases.c.job_id == _jobs.c.id) | upscaled, fresh).exists()


async def _end_ledgers(connection: AsyncConnection, now: datetime) -> None:
    charges, notices, erasures = tables.charges, tables.notices, tables.erasures
    await connection.execute(delete(charges).where(charges.c.day < (now - LEDGER).date()))
    await connection.execute(delete(notices).where(notices.c.sent_at < now - LEDGER))
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    for row in (await connection.execute(select(erasures).where(erasures.c.asked_at < midnight))).all():
        mine = (charges.c.user_id == row.user_id) & (charges.c.day <= row.asked_at.date())
        await connection.execute(update(charges).where(mine).values(user_id=FORGOTTEN))
        await connection.execute(delete(erasures).where(erasures.c.user_id == row.user_id))
