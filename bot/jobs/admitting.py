"""Admission to the queue: everybody who asks while one commit is under way gets into the next one together."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from sqlalchemy import bindparam, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.errors import QueueClosed, QueueFull, UserFacingError
from bot.jobs import quota
from bot.jobs.closures import EVERYWHERE, closed_servers
from bot.jobs.model import Closure, Job, JobState, NewJob
from bot.jobs.quota import Terms
from bot.jobs.rows import in_state, job_of, now, was_claimed
from bot.jobs.together import Together
from bot.moderation.cases import CaseKind, open_case
from bot.storage import tables
from bot.storage.session import Database
from t2i.api import MAX_SEED

_jobs, _users = tables.jobs, tables.users


@dataclass(frozen=True, slots=True)
class Asked:
    """A job with what it costs and on which terms it is taken."""

    new: NewJob
    cost: float
    size: int | None
    steps: int | None
    terms: Terms


class Admissions:
    def __init__(self, database: Database, *, queued_per_user: int) -> None:
        self._database = database
        self._queued_per_user = queued_per_user
        self._together: Together[Asked, Job] = Together(self._admit)

    async def admit(self, asked: Asked) -> Job:
        """The job, committed; the one made before for an interaction that comes again.

        Raises QueueClosed, QueueFull or QuotaUsedUp, with nothing written.
        """
        return await self._together.ask(asked)

    async def _admit(self, batch: Sequence[Asked]) -> list[Job | Exception]:
        async with self._database.write() as connection:
            desk = await _Desk.open(connection, self._database, batch, self._queued_per_user)
            refused = {number: refusal for number, asked in enumerate(batch) if (refusal := desk.take(asked))}
            await desk.close(connection)
        return [refused.get(number) or desk.jobs[asked.new.interaction_id] for number, asked in enumerate(batch)]


@dataclass(slots=True)
class _Desk:
    """One transaction of admissions: what holds at its beginning, and what comes to be written."""

    jobs: dict[int, Job]
    """By interaction."""
    served: float
    """Virtual time of the queue."""
    tags: dict[int, float]
    """Where each user's next job may start."""
    waiting: Counter[int]
    """Jobs of each user, those that a moderator has to look at among them."""
    queued_per_user: int
    draining: set[int]
    """Servers that take nothing new, EVERYWHERE among them."""
    today: quota.Today
    taken: dict[int, Asked] = field(default_factory=dict)
    """By interaction."""
    rows: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    async def open(
        cls, connection: AsyncConnection, database: Database, batch: Sequence[Asked], queued_per_user: int
    ) -> _Desk:
        users = sorted({asked.new.user_id for asked in batch})
        await connection.execute(
            database.insert(_users).on_conflict_do_nothing(), [{"id": user_id} for user_id in users]
        )
        locked = await connection.execute(
            select(_users).where(_users.c.id.in_(users)).order_by(_users.c.id).with_for_update()
        )
        # Whoever is erased at this moment has no row any more; their job is refused by its foreign key.
        tags = dict.fromkeys(users, 0.0) | {row.id: row.tag for row in locked}
        interactions = [asked.new.interaction_id for asked in batch]
        known = await connection.execute(select(_jobs).where(_jobs.c.interaction_id.in_(interactions)))
        jobs = {row.interaction_id: job_of(row) for row in known}
        # One look for each state: SQLite uses no partial index for a choice of two.
        waiting: Counter[int] = Counter()
        for state in (JobState.QUEUED, JobState.HELD):
            theirs = select(_jobs.c.user_id, func.count()).where(_jobs.c.user_id.in_(users), in_state(state))
            waiting.update({row.user_id: row[1] for row in await connection.execute(theirs.group_by(_jobs.c.user_id))})
        return cls(
            jobs=jobs,
            served=await connection.scalar(select(func.max(_jobs.c.tag)).where(was_claimed())) or 0.0,
            tags=tags,
            waiting=waiting,
            queued_per_user=queued_per_user,
            draining=await closed_servers(connection, Closure.DRAINING),
            today=await quota.Today.open(connection, database, [(asked.new, asked.terms) for asked in batch]),
        )

    def take(self, asked: Asked) -> UserFacingError | None:
        """Put the job down to be written, or say why it is not taken."""
        new = asked.new
        if new.interaction_id in self.jobs or new.interaction_id in self.taken:
            return None
        try:
            self._require_room(new)
            self.today.charge(new, asked.terms)
        except UserFacingError as refusal:
            return refusal
        tag = max(self.served, self.tags[new.user_id])
        self.tags[new.user_id] = tag + asked.cost / asked.terms.weight
        self.waiting[new.user_id] += 1
        self.taken[new.interaction_id] = asked
        self.rows.append(
            {
                "interaction_id": new.interaction_id,
                "interaction_token": new.interaction_token,
                "kind": new.kind,
                "state": JobState.HELD if new.held else JobState.QUEUED,
                "options": msgspec.json.encode(new.options).decode(),
                "checkpoint": new.checkpoint,
                "seed": new.options.seed if new.options.seed is not None else secrets.randbelow(MAX_SEED + 1),
                "size": asked.size,
                "steps": asked.steps,
                "cost": asked.cost,
                "tag": tag,
                "user_id": new.user_id,
                "channel_id": new.channel_id,
                "guild_id": new.guild_id,
                "file_limit": new.file_limit,
                "parent_id": new.parent_id,
                "parent_index": new.parent_index,
                "created_at": now(),
            }
        )
        return None

    def _require_room(self, new: NewJob) -> None:
        if not self.draining.isdisjoint((EVERYWHERE, new.guild_id)):
            raise QueueClosed(
                "The queue is running empty because a moderator closed it; no new jobs are taken until it opens again."
            )
        waiting = self.waiting[new.user_id]
        if waiting >= self.queued_per_user:
            raise QueueFull(
                f"You have {waiting} jobs waiting, which is the most one person may have; "
                "wait for one to finish or cancel one."
            )

    async def close(self, connection: AsyncConnection) -> None:
        """Write what was taken."""
        if not self.rows:
            return
        inserted = await connection.execute(_jobs.insert().returning(_jobs), self.rows)
        admitted = {row.interaction_id: job_of(row) for row in inserted}
        self.jobs |= admitted
        users = {asked.new.user_id for asked in self.taken.values()}
        await connection.execute(
            update(_users).where(_users.c.id == bindparam("user")).values(tag=bindparam("next")),
            [{"user": user_id, "next": self.tags[user_id]} for user_id in users],
        )
        await quota.charge(connection, [(job, self.taken[number].terms) for number, job in admitted.items()])
        for number, job in admitted.items():
            if (reason := self.taken[number].new.held) is not None:
                assert job.guild_id is not None, "nobody moderates direct messages"
                await open_case(
                    connection,
                    CaseKind.PROMPT,
                    guild_id=job.guild_id,
                    user_id=job.user_id,
                    reason=reason,
                    job_id=job.id,
                )
