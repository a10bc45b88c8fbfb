"""Members' reports: those about one picture join one case, and enough of them hide it until a moderator decides."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import ColumnElement, case, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.errors import JobNotFound, PicturesGone, ReportRefused
from bot.jobs.decided import set_showing
from bot.jobs.model import Showing
from bot.moderation import cases
from bot.moderation.cases import CaseKind, CaseState, Decision
from bot.storage import tables
from bot.storage.session import Database

HIDE_AFTER = 3
"""People who reported a picture until it is hidden, where a server set nothing else."""
HIDDEN = "It was reported and waits for a moderator."

_cases, _reports, _images, _jobs = tables.cases, tables.reports, tables.images, tables.jobs


@dataclass(frozen=True, slots=True)
class Reported:
    case_id: int
    reporters: int
    hidden: bool
    """This report hid it."""


@dataclass(frozen=True, slots=True)
class Record:
    """How reliable somebody's reports were: of those that moderators decided, how many they found nothing wrong in."""

    decided: int = 0
    unfounded: int = 0


class Reports:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def report(self, job_id: int, index: int | None, reporter_id: int, reason: str) -> Reported:
        """Report one picture of a job, or all of them; one transaction with what follows from it.

        Raises JobNotFound, PicturesGone, or ReportRefused where it would change nothing.
        """
        async with self._database.write() as connection:
            # The lock has reports of one job wait for each other where there are several writers.
            about = select(_jobs.c.guild_id, _jobs.c.user_id).where(_jobs.c.id == job_id).with_for_update()
            job = (await connection.execute(about)).one_or_none()
            if job is None:
                raise JobNotFound("That job is gone.")
            if job.guild_id is None:
                raise ReportRefused("Direct messages have no moderators; only you see these pictures.")
            shown = await _shown(connection, job_id, index)
            if not any(showing.seen for showing in shown.values()):
                raise ReportRefused("That picture is not shown: a moderator has it already.")
            await _refuse_repeated(connection, job_id, index, reporter_id)
            case_id = await connection.scalar(select(_cases.c.id).where(_about(job_id, index), _open()))
            if case_id is None:
                case_id = await cases.open_case(
                    connection,
                    CaseKind.REPORT,
                    guild_id=job.guild_id,
                    user_id=job.user_id,
                    reason="Reported by members.",
                    job_id=job_id,
                    index=index,
                )
            await connection.execute(
                _reports.insert().values(
                    case_id=case_id, user_id=reporter_id, reason=reason, reported_at=datetime.now(UTC)
                )
            )
            await cases.changed(connection, case_id)
            count = select(func.count()).select_from(_reports).where(_reports.c.case_id == case_id)
            reporters = await connection.scalar(count) or 0
            hidden = reporters >= await _hide_after(connection, job.guild_id)
            if hidden and not await _was_approved(connection, job_id, index):
                await _hide(connection, job_id, case_id, shown)
            else:
                hidden = False
            return Reported(case_id, reporters, hidden)


async def records(connection: AsyncConnection, user_ids: Collection[int], *, but: int) -> dict[int, Record]:
    """Of each of these people, from the decisions of every server about all cases but one."""
    unfounded = func.sum(case((_cases.c.decision == Decision.APPROVE, 1), else_=0))
    statement = (
        select(_reports.c.user_id, func.count().label("decided"), unfounded.label("unfounded"))
        .join(_cases, _cases.c.id == _reports.c.case_id)
        .where(_reports.c.user_id.in_(user_ids), _cases.c.state == CaseState.DECIDED, _cases.c.id != but)
        .group_by(_reports.c.user_id)
    )
    found = {row.user_id: Record(row.decided, row.unfounded) for row in await connection.execute(statement)}
    return {user_id: found.get(user_id, Record()) for user_id in user_ids}


async def _shown(connection: AsyncConnection, job_id: int, index: int | None) -> dict[int, Showing]:
    """How the pictures that are meant are shown. Raises PicturesGone where there are none."""
    columns = select(_images.c["index"].label("number"), _images.c.showing).where(_images.c.job_id == job_id)
    theirs = columns if index is None else columns.where(_images.c["index"] == index)
    shown = {row.number: Showing(row.showing) for row in await connection.execute(theirs)}
    if not shown:
        raise PicturesGone("That picture was deleted, so there is nothing left to report.")
    return shown


async def _refuse_repeated(connection: AsyncConnection, job_id: int, index: int | None, reporter_id: int) -> None:
    before = (
        select(_cases.c.state)
        .join(_reports, _reports.c.case_id == _cases.c.id)
        .where(_about(job_id, index), _reports.c.user_id == reporter_id)
        .order_by(_cases.c.id.desc())
        .limit(1)
    )
    match await connection.scalar(before):
        case CaseState.OPEN:
            raise ReportRefused("You have reported this already; a moderator will look at it.")
        case CaseState.DECIDED:
            raise ReportRefused("You have reported this before, and a moderator has decided.")


async def _hide_after(connection: AsyncConnection, guild_id: int) -> int:
    settings = tables.moderation.c
    set_here = select(settings.hide_after_reports).where(settings.guild_id == guild_id)
    return await connection.scalar(set_here) or HIDE_AFTER


async def _was_approved(connection: AsyncConnection, job_id: int, index: int | None) -> bool:
    """A moderator has found it fit to be seen, so no number of reports hides it again."""
    approved = _cases.c.decision.in_((Decision.APPROVE, Decision.SPOILER))
    whose = (
        (_cases.c.job_id == job_id) & (_cases.c.kind != CaseKind.PROMPT) & (_cases.c["index"].is_(None) | _at(index))
    )
    return await connection.scalar(select(_cases.c.id).where(whose, approved).limit(1)) is not None


async def _hide(connection: AsyncConnection, job_id: int, case_id: int, shown: dict[int, Showing]) -> None:
    seen = {index: showing for index, showing in shown.items() if showing.seen}
    known = (await cases.get_case(connection, case_id)).before
    await cases.keep_before(connection, case_id, {**seen, **known})
    for index in seen:
        await set_showing(connection, job_id, index, Showing.HELD, note=HIDDEN)


def _about(job_id: int, index: int | None) -> ColumnElement[bool]:
    return (_cases.c.kind == CaseKind.REPORT) & (_cases.c.job_id == job_id) & _at(index)


def _at(index: int | None) -> ColumnElement[bool]:
    return _cases.c["index"].is_(None) if index is None else _cases.c["index"] == index


def _open() -> ColumnElement[bool]:
    return _cases.c.state == CaseState.OPEN
