"""Who may have how much: weights in the queue and quotas of GPU seconds a day, by person, role and server.

A job is charged in the transaction that changes its state: an estimate when it is admitted, the engine's own measure
when it is rendered, nothing when it fails or is cancelled. The charges are a ledger with one row a job, so what is used
is their sum and nothing can drift. A day is a day in UTC, and a job counts for the day on which it was asked for.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.elements import ColumnElement

from bot.errors import QuotaUsedUp
from bot.jobs.model import Job, NewJob
from bot.storage import tables
from bot.storage.session import Database

DRAFT_WEIGHT = 2.0
"""A draft counts half: somebody waits for a first look at it."""

_charges = tables.charges


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms a job is admitted."""

    weight: float = 1.0
    """Its user's share of the queue, 1 for most."""
    estimate: float = 0.0
    """GPU seconds it will probably take; 0 while nobody knows."""
    user_limit: float | None = None
    """GPU seconds a day; None for no limit."""
    guild_limit: float | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """The operator's settings about people. Of several roles, the one that gives most counts."""

    role_weights: Mapping[int, float] = field(default_factory=dict)
    user_limit: float | None = None
    role_limits: Mapping[int, float] = field(default_factory=dict)
    """Instead of `user_limit`, for those who wear the role."""
    guild_limit: float | None = None

    def weight(self, role_ids: Collection[int], *, draft: bool = False) -> float:
        weight = max((self.role_weights[role] for role in role_ids if role in self.role_weights), default=1.0)
        return weight * DRAFT_WEIGHT if draft else weight

    def limit(self, role_ids: Collection[int]) -> float | None:
        """GPU seconds a day of somebody with these roles."""
        return max((self.role_limits[role] for role in role_ids if role in self.role_limits), default=self.user_limit)


@dataclass(frozen=True, slots=True)
class Usage:
    """GPU seconds of one day, those of waiting jobs by estimate."""

    used: float
    limit: float | None
    resets_at: datetime


class Quotas:
    """What was used today."""

    def __init__(self, database: Database, policy: Policy) -> None:
        self._database = database
        self._policy = policy

    async def of_user(self, user_id: int, role_ids: Collection[int]) -> Usage:
        return await self._usage(_charges.c.user_id == user_id, self._policy.limit(role_ids))

    async def of_guild(self, guild_id: int) -> Usage:
        return await self._usage(_charges.c.guild_id == guild_id, self._policy.guild_limit)

    async def most_in_guild(self, guild_id: int, count: int) -> tuple[tuple[int, float], ...]:
        """The users who used most of that server's day, with their GPU seconds there."""
        used = func.sum(_charges.c.seconds)
        statement = (
            select(_charges.c.user_id, used)
            .where(_charges.c.guild_id == guild_id, _charges.c.day == datetime.now(UTC).date())
            .group_by(_charges.c.user_id)
            .order_by(used.desc(), _charges.c.user_id)
            .limit(count)
        )
        async with self._database.read() as connection:
            return tuple((user_id, seconds) for user_id, seconds in await connection.execute(statement))

    async def _usage(self, whose: ColumnElement[bool], limit: float | None) -> Usage:
        now = datetime.now(UTC)
        async with self._database.read() as connection:
            return Usage(await _used(connection, whose, now), limit, _next_day(now))


class Today:
    """What users and servers have used today, in a transaction during which nobody else may charge them."""

    def __init__(self, moment: datetime, users: dict[int, float], guilds: dict[int, float]) -> None:
        self._moment = moment
        self._users = users
        self._guilds = guilds

    @classmethod
    async def open(
        cls, connection: AsyncConnection, database: Database, asked: Sequence[tuple[NewJob, Terms]]
    ) -> Today:
        """For those who want to be charged; the rows of the users are locked already."""
        moment = datetime.now(UTC)
        users = {new.user_id for new, terms in asked if terms.user_limit is not None}
        guilds = {new.guild_id for new, terms in asked if terms.guild_limit is not None and new.guild_id is not None}
        if guilds:
            table = tables.guilds
            await connection.execute(
                database.insert(table).on_conflict_do_nothing(), [{"id": guild_id} for guild_id in sorted(guilds)]
            )
            await connection.execute(
                select(table.c.id).where(table.c.id.in_(guilds)).order_by(table.c.id).with_for_update()
            )
        return cls(
            moment,
            await _used_by(connection, _charges.c.user_id, users, moment),
            await _used_by(connection, _charges.c.guild_id, guilds, moment),
        )

    def charge(self, new: NewJob, terms: Terms) -> None:
        """Count the job in. Raises QuotaUsedUp when it would pass its user's or its server's limit."""
        if terms.user_limit is not None:
            self._require(self._users[new.user_id], terms.user_limit, terms.estimate, "You have")
        if terms.guild_limit is not None and new.guild_id is not None:
            self._require(self._guilds[new.guild_id], terms.guild_limit, terms.estimate, "This server has")
        if new.user_id in self._users:
            self._users[new.user_id] += terms.estimate
        if new.guild_id is not None and new.guild_id in self._guilds:
            self._guilds[new.guild_id] += terms.estimate

    def _require(self, used: float, limit: float, estimate: float, subject: str) -> None:
        left = limit - used
        if left > 0 and estimate <= left:
            return
        needed = f", and this would take about {estimate:.0f} s" if left > 0 else ""
        raise QuotaUsedUp(
            f"{subject} {max(left, 0.0):.0f} of {limit:.0f} s of GPU time left for today{needed}; "
            f"a new day begins <t:{int(_next_day(self._moment).timestamp())}:R>."
        )


async def charge(connection: AsyncConnection, admitted: Sequence[tuple[Job, Terms]]) -> None:
    """Put down what the jobs will probably take."""
    day = datetime.now(UTC).date()
    await connection.execute(
        _charges.insert(),
        [
            {
                "job_id": job.id,
                "user_id": job.user_id,
                "guild_id": job.guild_id,
                "day": day,
                "seconds": terms.estimate,
            }
            for job, terms in admitted
        ],
    )


async def settle(connection: AsyncConnection, job_id: int, seconds: float) -> None:
    """The job took this long."""
    await connection.execute(_charges.update().where(_charges.c.job_id == job_id).values(seconds=seconds))


async def refund(connection: AsyncConnection, *job_ids: int) -> None:
    """The jobs gave nobody a picture."""
    await connection.execute(_charges.delete().where(_charges.c.job_id.in_(job_ids)))


async def _used(connection: AsyncConnection, whose: ColumnElement[bool], now: datetime) -> float:
    total = await connection.scalar(select(func.sum(_charges.c.seconds)).where(whose, _charges.c.day == now.date()))
    return total or 0.0


async def _used_by(
    connection: AsyncConnection, owner: ColumnElement[int], owners: Collection[int], now: datetime
) -> dict[int, float]:
    used = dict.fromkeys(owners, 0.0)
    if owners:
        sums = select(owner, func.sum(_charges.c.seconds)).where(owner.in_(owners), _charges.c.day == now.date())
        used |= {row[0]: row[1] for row in await connection.execute(sums.group_by(owner))}
    return used


def _next_day(now: datetime) -> datetime:
    return datetime.combine(now.date() + timedelta(days=1), time.min, UTC)
