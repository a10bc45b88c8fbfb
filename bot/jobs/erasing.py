"""Erasing jobs and all that is theirs: rows in one transaction, then files, then messages, until Discord obeys."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime

import aiohttp
import discord
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.elements import ColumnElement

from bot.jobs import quota
from bot.jobs.model import JobState
from bot.jobs.rounds import Rounds
from bot.jobs.rows import used_files
from bot.moderation.cases import void_of_jobs
from bot.storage import tables
from bot.storage.session import Database

_log = logging.getLogger(__name__)

BATCH = 100
"""Messages that are deleted between two looks at the database, and jobs that one statement names."""
PAUSES = (2.0, 300.0)
"""Seconds between two looks for messages that are to go: usually, and at most while Discord takes nothing."""

_jobs, _images, _deletions = tables.jobs, tables.images, tables.deletions


@dataclass(frozen=True, slots=True)
class Erased:
    jobs: int
    unfinished: tuple[int, ...]
    """Those that were to be drawn or were being drawn."""
    files: frozenset[str]
    """Files that no picture refers to any more."""


async def erase_jobs(
    connection: AsyncConnection, database: Database, whose: ColumnElement[bool], *, messages: bool
) -> Erased:
    """Delete these jobs, their prompts and their pictures; with `messages`, these are to go from Discord too.

    What was not drawn yet costs nobody anything. Cases about them that are open need no decision any more.
    """
    columns = (_jobs.c.id, _jobs.c.state, _jobs.c.channel_id, _jobs.c.message_id)
    rows = (await connection.execute(select(*columns).where(whose).with_for_update())).all()
    files: set[str] = set()
    for start in range(0, len(rows), BATCH):
        batch = rows[start : start + BATCH]
        ids = [row.id for row in batch]
        shown = [
            {"message_id": row.message_id, "channel_id": row.channel_id, "asked_at": datetime.now(UTC)}
            for row in batch
            if row.message_id is not None
        ]
        if messages and shown:
            await connection.execute(database.insert(_deletions).on_conflict_do_nothing(), shown)
        await void_of_jobs(connection, ids)
        files |= await _delete(connection, ids)
    unfinished = tuple(row.id for row in rows if row.state in (JobState.HELD, JobState.QUEUED, JobState.RUNNING))
    await quota.refund(connection, *unfinished)
    return Erased(len(rows), unfinished, frozenset(files))


async def _delete(connection: AsyncConnection, job_ids: list[int]) -> set[str]:
    """Returns the files that nothing refers to any more."""
    gone = _images.delete().where(_images.c.job_id.in_(job_ids)).returning(_images.c.sha256, _images.c.latents_sha256)
    files = {name for row in await connection.execute(gone) for name in (row.sha256, row.latents_sha256) if name}
    await connection.execute(_jobs.delete().where(_jobs.c.id.in_(job_ids)))
    return files - await used_files(connection, files)


class Deletions(Rounds):
    """Deletes messages from Discord for as long as there are any to delete."""

    def __init__(self, database: Database, client: discord.Client) -> None:
        super().__init__("delete messages", after_failure=PAUSES[0])
        self._database = database
        self._client = client
        self._pause = PAUSES[0]

    async def _look(self) -> float:
        shortest, longest = PAUSES
        self._pause = min(2 * self._pause, longest) if await self.delete_all() else shortest
        return self._pause

    async def delete_all(self) -> bool:
        """Whether Discord did not take all of it."""
        last, trouble = 0, False
        while batch := await self._after(last):
            for message_id, channel_id in batch:
                last = message_id
                try:
                    await self._client.http.delete_message(channel_id, message_id)
                except (discord.Forbidden, discord.NotFound) as error:
                    _log.info("Message %d is beyond reach: %s", message_id, error)
                except (discord.HTTPException, aiohttp.ClientError, OSError) as error:
                    _log.warning("Message %d could not be deleted now: %s", message_id, error)
                    trouble = True
                    continue
                async with self._database.write() as connection:
                    await connection.execute(_deletions.delete().where(_deletions.c.message_id == message_id))
        return trouble

    async def _after(self, last: int) -> list[tuple[int, int]]:
        """Messages with their channels, from the oldest on."""
        columns = select(_deletions.c.message_id, _deletions.c.channel_id)
        following = columns.where(_deletions.c.message_id > last).order_by(_deletions.c.message_id).limit(BATCH)
        async with self._database.read() as connection:
            return [(row.message_id, row.channel_id) for row in await connection.execute(following)]
