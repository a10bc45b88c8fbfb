"""What a moderator's decision does to a job, each in the transaction of the decision."""

from __future__ import annotations

from sqlalchemy import case, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.jobs import quota
from bot.jobs.model import JobState, Showing
from bot.jobs.rows import in_state, now, was_claimed
from bot.storage import tables

_jobs, _images = tables.jobs, tables.images


async def release(connection: AsyncConnection, job_id: int) -> bool:
    """A moderator lets a held job be drawn: it waits where it would by now. False when it is not held any more."""
    served = select(func.max(_jobs.c.tag)).where(was_claimed()).scalar_subquery()
    passed = func.coalesce(served, 0.0)
    result = await connection.execute(
        update(_jobs)
        .where(_jobs.c.id == job_id, in_state(JobState.HELD))
        .values(state=JobState.QUEUED, tag=case((_jobs.c.tag < passed, passed), else_=_jobs.c.tag))
    )
    return result.rowcount == 1


async def refuse(connection: AsyncConnection, job_id: int, sentence: str) -> bool:
    """A moderator does not let a held job be drawn; `sentence` tells its author. False when it is not held any more."""
    result = await connection.execute(
        update(_jobs)
        .where(_jobs.c.id == job_id, in_state(JobState.HELD))
        .values(state=JobState.FAILED, error=sentence, finished_at=now())
    )
    if result.rowcount != 1:
        return False
    await quota.refund(connection, job_id)
    return True


async def set_showing(
    connection: AsyncConnection, job_id: int, index: int | None, showing: Showing, *, note: str | None = None
) -> None:
    """Show one picture of a job, or all of them with None, so from now on; the message follows by itself.

    `note` is the sentence that stands in the message where a picture is held or removed.
    """
    theirs = _images.c.job_id == job_id if index is None else (_images.c.job_id == job_id) & (_images.c.index == index)
    await connection.execute(update(_images).where(theirs).values(showing=showing, note=note))
    await reshow(connection, job_id)


async def reshow(connection: AsyncConnection, job_id: int) -> None:
    """The message of a job that has ended is to be edited once more; others are edited anyway."""
    await connection.execute(
        update(_jobs).where(_jobs.c.id == job_id).values(revision=_jobs.c.revision + 1, shown_at=None)
    )
