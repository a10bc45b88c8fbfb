"""Rows as `Job`s and pictures, and conditions on them that both databases can answer from an index."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
from sqlalchemy import Row, literal, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.elements import ColumnElement

from bot.jobs.model import Job, JobKind, JobState, Showing, StoredImage
from bot.prompt.options import JobOptions
from bot.storage import tables


def in_state(*states: JobState) -> ColumnElement[bool]:
    # Written into the SQL text, because SQLite uses a partial index only for a condition it can read.
    return or_(*(tables.jobs.c.state == literal(state.value, literal_execute=True) for state in states))


def was_claimed() -> ColumnElement[bool]:
    return tables.jobs.c.attempt > literal(0, literal_execute=True)


def now() -> datetime:
    return datetime.now(UTC)


def job_of(row: Row[tuple[object, ...]]) -> Job:
    return Job(
        id=row.id,
        kind=JobKind(row.kind),
        state=JobState(row.state),
        attempt=row.attempt,
        crashes=row.crashes,
        options=msgspec.json.decode(row.options, type=JobOptions),
        checkpoint=row.checkpoint,
        seed=row.seed,
        user_id=row.user_id,
        channel_id=row.channel_id,
        guild_id=row.guild_id,
        message_id=row.message_id,
        interaction_token=row.interaction_token,
        file_limit=row.file_limit,
        parent_id=row.parent_id,
        parent_index=row.parent_index,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        error=row.error,
        seconds=row.seconds,
        shown_at=row.shown_at,
        revision=row.revision,
    )


def image_of(row: Row[tuple[object, ...]]) -> StoredImage:
    return StoredImage(**{**row._mapping, "showing": Showing(row.showing)})


async def used_files(connection: AsyncConnection, files: set[str]) -> set[str]:
    """Those of `files` that a picture refers to."""
    used: set[str] = set()
    for column in (tables.images.c.sha256, tables.images.c.latents_sha256):
        used.update(await connection.scalars(select(column).where(column.in_(files))))
    return used
