"""Cases: what moderators decide, one row each, and every decision made once."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from sqlalchemy import Row, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.errors import CaseNotFound
from bot.jobs.model import Showing
from bot.storage import tables

APPEAL_WINDOW = timedelta(days=7)
"""How long an author may appeal; until then the files of removed pictures are kept."""

_cases = tables.cases


class CaseKind(StrEnum):
    PROMPT = "prompt"
    """A rule holds the prompt; the job is HELD until this is decided."""
    PICTURE = "picture"
    """The classifier or the blocklist holds a picture."""
    REPORT = "report"
    """Members reported a job or a picture."""
    APPEAL = "appeal"
    """The author asks to look at another case again."""


class CaseState(StrEnum):
    OPEN = "open"
    DECIDED = "decided"
    VOID = "void"
    """There is nothing left to decide: the job was cancelled, deleted or erased."""


class Decision(StrEnum):
    APPROVE = "approve"
    SPOILER = "spoiler"
    REMOVE = "remove"
    TIME_OUT = "time-out"
    """Remove, and the author may not draw here for a while."""
    BAN = "ban"
    """Remove, and the author may not draw here any more."""

    @property
    def removes(self) -> bool:
        return self in (Decision.REMOVE, Decision.TIME_OUT, Decision.BAN)


@dataclass(frozen=True, slots=True)
class Case:
    id: int
    kind: CaseKind
    state: CaseState
    guild_id: int
    job_id: int | None
    index: int | None
    """Of the picture it is about; None for the whole job."""
    user_id: int
    """The author."""
    reason: str
    score: float | None
    appeal_of: int | None
    opened_at: datetime
    decision: Decision | None
    decided_by: int | None
    decided_at: datetime | None
    note: str | None
    channel_id: int | None
    posting_at: datetime | None
    """Since when its message may be in that channel; None before anything was sent."""
    message_id: int | None
    revision: int
    """Raised whenever its message is to say something else."""
    before: Mapping[int, Showing]
    """How the pictures that it hid or removed were shown until then, by index."""


async def open_case(
    connection: AsyncConnection,
    kind: CaseKind,
    *,
    guild_id: int,
    user_id: int,
    reason: str,
    job_id: int | None = None,
    index: int | None = None,
    score: float | None = None,
    appeal_of: int | None = None,
) -> int:
    """Write a case down in the transaction that makes it one; its message follows by itself. Returns its id."""
    row = _cases.insert().values(
        kind=kind,
        state=CaseState.OPEN,
        guild_id=guild_id,
        job_id=job_id,
        index=index,
        user_id=user_id,
        reason=reason,
        score=score,
        appeal_of=appeal_of,
        opened_at=datetime.now(UTC),
    )
    return int((await connection.execute(row.returning(_cases.c.id))).scalar_one())


async def keep_before(connection: AsyncConnection, case_id: int, before: Mapping[int, Showing]) -> None:
    """Remember how pictures were shown, so that a decision can be taken back."""
    told = json.dumps({str(index): showing for index, showing in sorted(before.items())})
    await connection.execute(update(_cases).where(_cases.c.id == case_id).values(before=told))


async def changed(connection: AsyncConnection, case_id: int) -> None:
    """Its message is to say something else."""
    statement = update(_cases).where(_cases.c.id == case_id)
    await connection.execute(statement.values(revision=_cases.c.revision + 1, shown_at=None))


async def void_of_jobs(connection: AsyncConnection, job_ids: Collection[int]) -> None:
    """These jobs are about to go: what is open needs no decision any more, and no message shows their pictures."""
    theirs = _cases.c.job_id.in_(job_ids)
    await connection.execute(
        update(_cases).where(theirs, _cases.c.state == CaseState.OPEN).values(state=CaseState.VOID)
    )
    await connection.execute(update(_cases).where(theirs).values(revision=_cases.c.revision + 1, shown_at=None))


async def appealable(connection: AsyncConnection, job_ids: Collection[int]) -> dict[int, int]:
    """The newest decision about each of these jobs that its author may still appeal against."""
    appeals = _cases.alias()
    latest = datetime.now(UTC) - APPEAL_WINDOW
    removing = [decision for decision in Decision if decision.removes]
    statement = (
        select(_cases.c.job_id, func.max(_cases.c.id).label("newest"))
        .where(
            _cases.c.job_id.in_(job_ids),
            _cases.c.kind != CaseKind.APPEAL,
            _cases.c.decision.in_(removing),
            _cases.c.decided_at > latest,
            ~select(appeals.c.id).where(appeals.c.appeal_of == _cases.c.id).exists(),
        )
        .group_by(_cases.c.job_id)
    )
    return {row.job_id: row.newest for row in await connection.execute(statement)}


async def get_case(connection: AsyncConnection, case_id: int) -> Case:
    """Raises CaseNotFound."""
    row = (await connection.execute(select(_cases).where(_cases.c.id == case_id))).one_or_none()
    if row is None:
        raise CaseNotFound("That case is gone.")
    return case_of(row)


def case_of(row: Row[tuple[object, ...]]) -> Case:
    return Case(
        id=row.id,
        kind=CaseKind(row.kind),
        state=CaseState(row.state),
        guild_id=row.guild_id,
        job_id=row.job_id,
        index=row._mapping["index"],  # a row is a tuple, which has an `index` of its own
        user_id=row.user_id,
        reason=row.reason,
        score=row.score,
        appeal_of=row.appeal_of,
        opened_at=row.opened_at,
        decision=None if row.decision is None else Decision(row.decision),
        decided_by=row.decided_by,
        decided_at=row.decided_at,
        note=row.note,
        channel_id=row.channel_id,
        posting_at=row.posting_at,
        message_id=row.message_id,
        revision=row.revision,
        before={int(index): Showing(shown) for index, shown in json.loads(row.before or "{}").items()},
    )
