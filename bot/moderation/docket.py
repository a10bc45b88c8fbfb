"""Cases as moderators see them, and whose messages do not say yet how they stand."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import case as when
from sqlalchemy import func, null, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.jobs.model import Job, JobState, StoredImage
from bot.jobs.rows import image_of, job_of
from bot.moderation import cases
from bot.moderation.cases import Case, CaseKind, CaseState
from bot.moderation.reports import Record, records
from bot.storage import tables
from bot.storage.session import Database

CHILDREN = 5

_cases, _reports, _jobs, _images = tables.cases, tables.reports, tables.jobs, tables.images


@dataclass(frozen=True, slots=True)
class Report:
    user_id: int
    reason: str
    record: Record


@dataclass(frozen=True, slots=True)
class CaseFile:
    """Everything that a moderator has to know, all of one moment."""

    case: Case
    job: Job | None
    """None when it is gone."""
    parent: Job | None
    children: tuple[Job, ...]
    """Some of those that were made of it."""
    images: tuple[StoredImage, ...]
    """Those that the case is about."""
    reports: tuple[Report, ...]
    """Oldest first."""
    appealed: Case | None
    """The case that an appeal is about."""
    appeal: Case | None
    """The appeal against what was decided, or a moderator's second look at it."""


class Docket:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def look(self, case_id: int) -> CaseFile:
        """Raises CaseNotFound."""
        async with self._database.read() as connection:
            case = await cases.get_case(connection, case_id)
            job = await _job(connection, case.job_id)
            appealed = None if case.appeal_of is None else await cases.get_case(connection, case.appeal_of)
            return CaseFile(
                case=case,
                job=job,
                parent=await _job(connection, job.parent_id if job else None),
                children=await _children(connection, case),
                images=await _pictures(connection, case),
                reports=await _told(connection, case.appeal_of or case.id),
                appealed=appealed,
                appeal=await _appeal(connection, case_id),
            )

    async def open_of(self, guild_id: int, *, limit: int) -> tuple[tuple[Case, ...], int]:
        """The oldest open cases of a server, and how many there are."""
        there = (_cases.c.guild_id == guild_id) & (_cases.c.state == CaseState.OPEN)
        async with self._database.read() as connection:
            count = await connection.scalar(select(func.count()).select_from(_cases).where(there))
            rows = await connection.execute(select(_cases).where(there).order_by(_cases.c.id).limit(limit))
            return tuple(map(cases.case_of, rows)), count or 0

    async def unshown(self) -> tuple[tuple[Case, int | None], ...]:
        """Cases whose message does not say how they stand, where there is one or can be; with the review channel."""
        channel = tables.moderation.c.review_channel_id
        statement = (
            select(_cases, channel.label("review_channel_id"))
            .outerjoin(tables.moderation, tables.moderation.c.guild_id == _cases.c.guild_id)
            .where(_cases.c.shown_at.is_(None), channel.is_not(None) | _cases.c.posting_at.is_not(None))
            .order_by(_cases.c.id)
        )
        async with self._database.read() as connection:
            rows = (await connection.execute(statement)).all()
            return tuple((cases.case_of(row), row.review_channel_id) for row in rows)

    async def void_pointless(self) -> None:
        """Prompts whose job was cancelled or deleted before anybody decided need no decision any more."""
        held = select(_jobs.c.id).where(_jobs.c.state == JobState.HELD)
        pointless = (_cases.c.kind == CaseKind.PROMPT) & (_cases.c.job_id.is_(None) | _cases.c.job_id.not_in(held))
        async with self._database.read() as connection:
            there = select(_cases.c.id).where(_cases.c.state == CaseState.OPEN, pointless)
            if await connection.scalar(there.limit(1)) is None:
                return
        async with self._database.write() as connection:
            await connection.execute(
                update(_cases)
                .where(_cases.c.state == CaseState.OPEN, pointless)
                .values(state=CaseState.VOID, revision=_cases.c.revision + 1, shown_at=None)
            )

    async def posting(self, case_id: int, channel_id: int) -> None:
        """From now on its message may be there."""
        await self._update(case_id, channel_id=channel_id, posting_at=datetime.now(UTC))

    async def posted(self, case_id: int, message_id: int) -> None:
        await self._update(case_id, message_id=message_id)

    async def not_posted(self, case_id: int) -> None:
        """Its message is not there, or not any more."""
        await self._update(case_id, channel_id=None, posting_at=None, message_id=None)

    async def shown(self, case: Case) -> None:
        """The message says what `case` says; if that changed meanwhile, it is edited once more."""
        fresh = when((_cases.c.revision == case.revision, datetime.now(UTC)), else_=null())
        await self._update(case.id, shown_at=fresh)

    async def _update(self, case_id: int, **values: object) -> None:
        async with self._database.write() as connection:
            await connection.execute(update(_cases).where(_cases.c.id == case_id).values(**values))


async def _job(connection: AsyncConnection, job_id: int | None) -> Job | None:
    if job_id is None:
        return None
    row = (await connection.execute(select(_jobs).where(_jobs.c.id == job_id))).one_or_none()
    return None if row is None else job_of(row)


async def _appeal(connection: AsyncConnection, case_id: int) -> Case | None:
    row = (await connection.execute(select(_cases).where(_cases.c.appeal_of == case_id))).one_or_none()
    return None if row is None else cases.case_of(row)


async def _children(connection: AsyncConnection, case: Case) -> tuple[Job, ...]:
    theirs = _jobs.c.parent_id == case.job_id
    if case.index is not None:
        theirs &= _jobs.c.parent_index == case.index
    rows = await connection.execute(select(_jobs).where(theirs).order_by(_jobs.c.id).limit(CHILDREN))
    return tuple(map(job_of, rows))


async def _told(connection: AsyncConnection, case_id: int) -> tuple[Report, ...]:
    theirs = select(_reports).where(_reports.c.case_id == case_id).order_by(_reports.c.reported_at)
    rows = (await connection.execute(theirs)).all()
    known = await records(connection, [row.user_id for row in rows], but=case_id)
    return tuple(Report(row.user_id, row.reason, known[row.user_id]) for row in rows)


async def _pictures(connection: AsyncConnection, case: Case) -> tuple[StoredImage, ...]:
    theirs = _images.c.job_id == case.job_id
    if case.index is not None:
        theirs &= _images.c["index"] == case.index
    rows = await connection.execute(select(_images).where(theirs).order_by(_images.c["index"]))
    return tuple(map(image_of, rows))
