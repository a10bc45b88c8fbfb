"""How long jobs take, measured on those drawn lately, and from it when a waiting one will be done."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import Row, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.jobs.closures import not_paused
from bot.jobs.model import JobState
from bot.jobs.rows import in_state, now
from bot.storage import tables
from bot.storage.session import Database

MEASURED = 500
"""Latest jobs that are looked at."""
SAMPLES = 20
"""Latest jobs of one key that count."""
REFRESH = 5.0
"""Seconds for which a measurement is used before it is taken anew."""

_jobs = tables.jobs
_KIND = (_jobs.c.checkpoint, _jobs.c.size, _jobs.c.steps)


@dataclass(frozen=True, slots=True)
class Work:
    """What a job asks of the engine; jobs alike but for `cost` take seconds in proportion to it."""

    checkpoint: str
    size: int | None
    steps: int | None
    cost: float


@dataclass(frozen=True, slots=True)
class Outlook:
    """What somebody who waits can expect."""

    position: int
    """Jobs ahead."""
    done_at: datetime | None
    """Probably; None until the first job was drawn."""


@dataclass(slots=True)
class _Sample:
    jobs: int = 0
    seconds: float = 0.0
    cost: float = 0.0


@dataclass(slots=True)
class _Rates:
    """Seconds per unit of cost, by what the sample has in common: the most that is known is used."""

    samples: dict[object, _Sample] = field(default_factory=lambda: defaultdict(_Sample))

    def add(self, work: Work, seconds: float) -> None:
        for key in _keys(work):
            sample = self.samples[key]
            if sample.jobs < SAMPLES:
                sample.jobs += 1
                sample.seconds += seconds
                sample.cost += work.cost

    def seconds(self, work: Work) -> float | None:
        sample = next((self.samples[key] for key in _keys(work) if key in self.samples), None)
        return None if sample is None else work.cost * sample.seconds / sample.cost


def _keys(work: Work) -> Iterable[object]:
    return ((work.checkpoint, work.size, work.steps), work.checkpoint, None)


class Estimates:
    """Every figure is None until the first job was drawn."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._rates = _Rates()
        self._measured_at = float("-inf")

    async def seconds(self, work: Work) -> float | None:
        """Seconds that the engine will probably take."""
        if not self._due():
            return self._rates.seconds(work)
        async with self._database.read() as connection:
            return (await self._current(connection)).seconds(work)

    async def outlooks(
        self, connection: AsyncConnection, waiting: Sequence[Row[tuple[object, ...]]]
    ) -> dict[int, Outlook]:
        """By the ids of those waiting jobs, if no more jobs pass them and as many are drawn at once as now."""
        rates, moment = await self._current(connection), now()
        columns = (*_KIND, _jobs.c.cost, _jobs.c.started_at)
        running = (await connection.execute(select(*columns).where(in_state(JobState.RUNNING)))).all()
        begun = 0.0
        for row in running:
            elapsed = (moment - row.started_at).total_seconds()
            begun += max(0.0, (rates.seconds(Work(row.checkpoint, row.size, row.steps, row.cost)) or 0.0) - elapsed)
        one = _jobs.alias()
        ahead = (_jobs.c.tag <= one.c.tag) & or_(_jobs.c.tag < one.c.tag, _jobs.c.id < one.c.id)
        work_ahead = (
            select(one.c.id, *_KIND, func.sum(_jobs.c.cost), func.count())
            .where(one.c.id.in_([job.id for job in waiting]), in_state(JobState.QUEUED), not_paused(), ahead)
            .group_by(one.c.id, *_KIND)
        )
        positions: Counter[int] = Counter()
        seconds: dict[int, float] = dict.fromkeys((job.id for job in waiting), begun)
        for job_id, checkpoint, size, steps, cost, jobs in await connection.execute(work_ahead):
            positions[job_id] += jobs
            seconds[job_id] += rates.seconds(Work(checkpoint, size, steps, cost)) or 0.0
        outlooks = {}
        for job in waiting:
            own = rates.seconds(Work(job.checkpoint, job.size, job.steps, job.cost))
            left = None if own is None else timedelta(seconds=seconds[job.id] / max(1, len(running)) + own)
            outlooks[job.id] = Outlook(positions[job.id], None if left is None else moment + left)
        return outlooks

    async def _current(self, connection: AsyncConnection) -> _Rates:
        if self._due():
            columns = (*_KIND, _jobs.c.cost, _jobs.c.seconds)
            latest = select(*columns).where(_jobs.c.seconds.is_not(None)).order_by(_jobs.c.id.desc()).limit(MEASURED)
            rates = _Rates()
            for checkpoint, size, steps, cost, seconds in await connection.execute(latest):
                rates.add(Work(checkpoint, size, steps, cost), seconds)
            self._rates, self._measured_at = rates, time.monotonic()
        return self._rates

    def _due(self) -> bool:
        return not self._rates.samples or time.monotonic() - self._measured_at > REFRESH
