"""What a decision does to pictures: out of sight and remembered, behind a spoiler, or shown again."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select, true
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.elements import ColumnElement

from bot.jobs.decided import set_showing
from bot.jobs.model import JobKind, Showing
from bot.moderation import cases
from bot.moderation.cases import Case, CaseKind, Decision
from bot.storage import tables

_cases, _images, _jobs, _hashes = tables.cases, tables.images, tables.jobs, tables.removed_hashes


async def remove(connection: AsyncConnection, case: Case, note: str, phashes: Sequence[str]) -> None:
    """Take the case's pictures and their upscales out of sight, and remember what they look like."""
    shown = await _showings(connection, case)
    # What looked like a removed picture was never shown, and is this case's to decide all the same.
    own = case.kind is CaseKind.PICTURE
    known = {index: showing for index, showing in shown.items() if own or showing is not Showing.REMOVED}
    await cases.keep_before(connection, case.id, {**known, **case.before})
    for index in shown:
        await _set(connection, case, index, Showing.REMOVED, note)
    if phashes:
        rows = [
            {"case_id": case.id, "number": number, "guild_id": case.guild_id, "phash": phash}
            for number, phash in enumerate(phashes)
        ]
        await connection.execute(_hashes.insert(), rows)


async def show(connection: AsyncConnection, case: Case, decision: Decision) -> None:
    """Approved, or behind a spoiler. What reports hid is shown as it was before, unless it was removed meanwhile."""
    if case.kind is CaseKind.REPORT and decision is Decision.APPROVE:
        await _restore(connection, case, Showing.HELD, decision)
        return
    for index in await _showings(connection, case):
        await _set(connection, case, index, _shown_by(decision))


async def take_back(connection: AsyncConnection, case: Case, decision: Decision) -> None:
    """Show again what the case removed, and forget what it looks like."""
    await connection.execute(_hashes.delete().where(_hashes.c.case_id == case.id))
    await _restore(connection, case, Showing.REMOVED, decision)


def concerned(case: Case) -> ColumnElement[bool]:
    """The rows of the case's pictures."""
    whole = _images.c.job_id == case.job_id
    return whole if case.index is None else whole & (_images.c["index"] == case.index)


async def _restore(connection: AsyncConnection, case: Case, hidden: Showing, decision: Decision) -> None:
    for index, showing in (await _showings(connection, case)).items():
        if showing is hidden and index in case.before:
            was = case.before[index]
            again = was if decision is Decision.APPROVE and was.seen else _shown_by(decision)
            await _set(connection, case, index, again)


async def _set(connection: AsyncConnection, case: Case, index: int, showing: Showing, note: str | None = None) -> None:
    """A picture and its upscales, which show the same; but what was decided about one of those by itself stays."""
    assert case.job_id is not None, "pictures are of a job"
    await set_showing(connection, case.job_id, index, showing, note=note)
    decided = select(_cases.c.id).where(_cases.c.job_id == _jobs.c.id, _cases.c.decision.is_not(None))
    upscaled = select(_jobs.c.id).where(
        _jobs.c.parent_id == case.job_id,
        _jobs.c.parent_index == index,
        _jobs.c.kind == JobKind.UPSCALE,
        ~decided.exists() if showing.seen else true(),
    )
    for job_id in (await connection.scalars(upscaled)).all():
        await set_showing(connection, job_id, None, showing, note=note)


def _shown_by(decision: Decision) -> Showing:
    return Showing.SPOILER if decision is Decision.SPOILER else Showing.PLAIN


async def _showings(connection: AsyncConnection, case: Case) -> dict[int, Showing]:
    columns = select(_images.c["index"].label("number"), _images.c.showing).where(concerned(case))
    return {row.number: Showing(row.showing) for row in await connection.execute(columns)}
