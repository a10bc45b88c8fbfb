"""Deciding cases: each once, and everything that follows from it in the same transaction."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.errors import AppealRefused, CaseDecided, NotAllowed
from bot.jobs import decided
from bot.moderation import audit, cases, notices, pictures, restrictions
from bot.moderation.cases import APPEAL_WINDOW, Case, CaseKind, CaseState, Decision
from bot.moderation.restrictions import Restriction
from bot.storage import tables
from bot.storage.images import ImageLost, ImageStore
from bot.storage.session import Database

log = logging.getLogger(__name__)

_cases, _images, _jobs = tables.cases, tables.images, tables.jobs

Variants = Callable[[bytes], Sequence[str]]
"""The perceptual hashes of a picture and of its mirrored and cropped selves, of PNG."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What somebody decides about a case, and who they are."""

    decision: Decision
    by: int
    note: str = ""
    """What the author is told."""
    until: datetime | None = None
    """How long a time-out lasts."""
    owner: bool = False
    """`by` owns the server."""


def choices(case: Case) -> tuple[Decision, ...]:
    """What may be decided: a prompt shows nothing that a spoiler could cover, an appeal punishes nobody anew."""
    match case.kind:
        case CaseKind.PROMPT:
            return (Decision.APPROVE, Decision.REMOVE, Decision.TIME_OUT, Decision.BAN)
        case CaseKind.APPEAL:
            return (Decision.APPROVE, Decision.SPOILER, Decision.REMOVE)
        case _:
            return tuple(Decision)


class Review:
    def __init__(self, database: Database, images: ImageStore, variants: Variants) -> None:
        self._database = database
        self._images = images
        self._variants = variants

    async def decide(self, case_id: int, verdict: Verdict) -> Case:
        """Of several decisions the first counts; the case as it is then.

        Raises CaseNotFound, CaseDecided naming who was first, or NotAllowed, with nothing changed.
        """
        phashes = await self._hashes(case_id) if verdict.decision.removes else []
        async with self._database.write() as connection:
            case = await cases.get_case(connection, case_id)
            appealed = None if case.appeal_of is None else await cases.get_case(connection, case.appeal_of)
            require_open(case, appealed, verdict)
            # As a report does, the job first: two writers that lock the same rows in two orders wait for ever.
            await connection.execute(select(_jobs.c.id).where(_jobs.c.id == case.job_id).with_for_update())
            if not await _settle(connection, case_id, verdict):
                raise CaseDecided(told_of(await cases.get_case(connection, case_id)))
            if not await self._follow(connection, case, appealed, verdict, phashes):
                await connection.execute(
                    update(_cases).where(_cases.c.id == case_id).values(state=CaseState.VOID, decision=None)
                )
            await self._record(connection, case, verdict)
            decided = await cases.get_case(connection, case_id)
        if decided.state is CaseState.VOID:
            raise CaseDecided(told_of(decided))
        return decided

    async def appeal(self, case_id: int, user_id: int, reason: str) -> int:
        """Ask the moderators to look at a decision again, once. Returns the new case; raises AppealRefused."""
        async with self._database.write() as connection:
            await connection.execute(select(_cases.c.id).where(_cases.c.id == case_id).with_for_update())
            case = await _appealable(connection, case_id, user_id)
            return await _open_appeal(connection, case, reason)

    async def take_back(self, case_id: int, by: int, note: str) -> None:
        """A moderator looks at a decision again unasked: kept as an appeal that is granted at once.

        Raises NotAllowed or AppealRefused.
        """
        async with self._database.write() as connection:
            await connection.execute(select(_cases.c.id).where(_cases.c.id == case_id).with_for_update())
            case = await cases.get_case(connection, case_id)
            _require_other(case, by)
            await _require_standing(connection, case)
            verdict = Verdict(Decision.APPROVE, by, note)
            appeal_id = await _open_appeal(connection, case, "A moderator looked at it again.")
            await _settle(connection, appeal_id, verdict)
            appeal = await cases.get_case(connection, appeal_id)
            await self._follow_appeal(connection, appeal, case, verdict)
            await self._record(connection, appeal, verdict)

    async def require_appealable(self, case_id: int, user_id: int) -> None:
        """Raises AppealRefused where an appeal would be refused."""
        async with self._database.read() as connection:
            await _appealable(connection, case_id, user_id)

    async def _hashes(self, case_id: int) -> list[str]:
        """Of the pictures that are about to be removed; before the transaction, because it reads them."""
        async with self._database.read() as connection:
            case = await cases.get_case(connection, case_id)
            if case.kind not in (CaseKind.PICTURE, CaseKind.REPORT):
                return []
            found = (await connection.scalars(select(_images.c.sha256).where(pictures.concerned(case)))).all()
        return await asyncio.to_thread(self._variants_of, found)

    def _variants_of(self, files: Iterable[str]) -> list[str]:
        phashes: dict[str, None] = {}
        for sha256 in files:
            try:
                phashes |= dict.fromkeys(self._variants(self._images.read(sha256)))
            except ImageLost:
                log.warning("A picture that is removed is gone already, so that no other is compared with it.")
        return list(phashes)

    async def _follow(
        self,
        connection: AsyncConnection,
        case: Case,
        appealed: Case | None,
        verdict: Verdict,
        phashes: Sequence[str],
    ) -> bool:
        """Do what was decided. False when there is nothing left to decide about."""
        if appealed is not None:
            await self._follow_appeal(connection, case, appealed, verdict)
            return True
        if case.kind is CaseKind.PROMPT:
            if not await _follow_prompt(connection, case, verdict):
                return False
        elif verdict.decision.removes:
            note = _with_note("A moderator removed this picture.", verdict.note)
            await pictures.remove(connection, case, note, phashes)
        else:
            await pictures.show(connection, case, verdict.decision)
        if verdict.decision.removes:
            await self._restrict(connection, case, verdict)
            why = _why(case, verdict, await _what(connection, case))
            await notices.owe(connection, case.user_id, why, case_id=case.id)
        return True

    async def _follow_appeal(self, connection: AsyncConnection, case: Case, appealed: Case, verdict: Verdict) -> None:
        await cases.changed(connection, appealed.id)
        sentence = f"A moderator has looked again at {await _what(connection, appealed)}"
        if verdict.decision.removes:
            sentence += ", and the decision stays."
        else:
            sentence += " and taken the decision back."
            if appealed.kind is CaseKind.PROMPT:
                sentence += " You may ask for it once more."
            else:
                await pictures.take_back(connection, appealed, verdict.decision)
            # Last, because it takes the audit log's lock.
            guild_id, author_id, by = appealed.guild_id, appealed.user_id, verdict.by
            await restrictions.lift(connection, self._database, guild_id, author_id, by=by, case_id=appealed.id)
        await notices.owe(connection, appealed.user_id, _with_note(sentence, verdict.note), case_id=case.id)

    async def _restrict(self, connection: AsyncConnection, case: Case, verdict: Verdict) -> None:
        if verdict.decision is Decision.REMOVE:
            return
        until = None if verdict.decision is Decision.BAN else verdict.until
        reason = verdict.note or f"decided in case {case.id}"
        restriction = Restriction(case.guild_id, case.user_id, until, reason, case.id)
        await restrictions.impose(connection, self._database, restriction, by=verdict.by)

    async def _record(self, connection: AsyncConnection, case: Case, verdict: Verdict) -> None:
        decision = {
            "kind": case.kind,
            "decision": verdict.decision,
            "job": case.job_id,
            "picture": None if case.index is None else case.index + 1,
            "author": await audit.pseudonym(connection, self._database, case.user_id),
            "appeal of": case.appeal_of,
        }
        deed = audit.Deed(case.guild_id, verdict.by, "case.decide", f"case {case.id}", after=decision)
        await audit.append(connection, self._database, deed)


def told_of(case: Case) -> str:
    """How a case stands, in one sentence."""
    if case.state is CaseState.VOID:
        return "There is nothing left to decide: it was cancelled or deleted meanwhile."
    if case.decision is None:
        return "Nobody has decided yet."
    return f"<@{case.decided_by}> has decided this case: {case.decision}."


def require_open(case: Case, appealed: Case | None, verdict: Verdict) -> None:
    """Raises CaseDecided, or NotAllowed where that person may not decide so."""
    if case.state is not CaseState.OPEN:
        raise CaseDecided(told_of(case))
    _require_other(case, verdict.by)
    if verdict.decision not in choices(case):
        raise NotAllowed("That cannot be decided about this case.")
    if appealed is not None and verdict.decision.removes and appealed.decided_by == verdict.by and not verdict.owner:
        raise NotAllowed("You made the first decision, so only another moderator or the server's owner confirms it.")


async def _appealable(connection: AsyncConnection, case_id: int, user_id: int) -> Case:
    case = await cases.get_case(connection, case_id)
    if case.user_id != user_id:
        raise AppealRefused("Only whoever it was decided about can appeal.")
    await _require_standing(connection, case)
    return case


async def _require_standing(connection: AsyncConnection, case: Case) -> None:
    """Raises AppealRefused unless it can still be looked at again."""
    if case.decision is None or not case.decision.removes or case.kind is CaseKind.APPEAL:
        raise AppealRefused("There is no decision that could be looked at again.")
    if case.decided_at is not None and datetime.now(UTC) > case.decided_at + APPEAL_WINDOW:
        raise AppealRefused(f"A decision can be looked at again for {APPEAL_WINDOW.days} days.")
    if await connection.scalar(select(_cases.c.id).where(_cases.c.appeal_of == case.id)) is not None:
        raise AppealRefused("One decision is looked at again once, and that was asked for already.")


def _require_other(case: Case, by: int) -> None:
    if case.user_id == by:
        raise NotAllowed("This is about yourself, so another moderator has to decide it.")


async def _open_appeal(connection: AsyncConnection, case: Case, reason: str) -> int:
    await cases.changed(connection, case.id)
    return await cases.open_case(
        connection,
        CaseKind.APPEAL,
        guild_id=case.guild_id,
        user_id=case.user_id,
        reason=reason,
        job_id=case.job_id,
        index=case.index,
        score=case.score,
        appeal_of=case.id,
    )


async def _settle(connection: AsyncConnection, case_id: int, verdict: Verdict) -> bool:
    statement = (
        update(_cases)
        .where(_cases.c.id == case_id, _cases.c.state == CaseState.OPEN)
        .values(
            state=CaseState.DECIDED,
            decision=verdict.decision,
            decided_by=verdict.by,
            decided_at=datetime.now(UTC),
            note=verdict.note or None,
            revision=_cases.c.revision + 1,
            shown_at=None,
        )
    )
    return (await connection.execute(statement)).rowcount == 1


async def _follow_prompt(connection: AsyncConnection, case: Case, verdict: Verdict) -> bool:
    if case.job_id is None:
        return False
    if verdict.decision is Decision.APPROVE:
        return await decided.release(connection, case.job_id)
    return await decided.refuse(connection, case.job_id, _with_note("A moderator refused this prompt.", verdict.note))


def _why(case: Case, verdict: Verdict, what: str) -> str:
    deed = "refused" if case.kind is CaseKind.PROMPT else "removed"
    told = [_with_note(f"A moderator {deed} {what}.", verdict.note)]
    if verdict.decision is Decision.TIME_OUT and verdict.until is not None:
        told.append(f"You may not draw in that server until <t:{int(verdict.until.timestamp())}:f>.")
    elif verdict.decision is Decision.BAN:
        told.append("You may not draw in that server any more.")
    told.append(f"You may appeal once, within {APPEAL_WINDOW.days} days.")
    return "\n".join(told)


async def _what(connection: AsyncConnection, case: Case) -> str:
    """What the case is about, with a link to its message while that is known."""
    where = select(_jobs.c.channel_id, _jobs.c.message_id).where(_jobs.c.id == case.job_id)
    job = (await connection.execute(where)).one_or_none()
    name = f"job {case.job_id}"
    if job is not None and job.message_id is not None:
        name = f"[{name}](https://discord.com/channels/{case.guild_id}/{job.channel_id}/{job.message_id})"
    if case.kind is CaseKind.PROMPT:
        return f"the prompt of your {name}"
    which = "the pictures" if case.index is None else f"picture {case.index + 1}"
    return f"{which} of your {name}"


def _with_note(sentence: str, note: str) -> str:
    return f"{sentence.removesuffix('.')}: {note.strip()}" if note.strip() else sentence
