"""How long jobs take, measured on those drawn lately, and from it when a waiting one will be done."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import func, or_, select
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


@dataclass(frozen=True, slots=True)
class Work:
    """What a job asks of the engine; jobs alike but for `cost` take seconds in proportion to it."""

    checkpoint: str
    size: int | None
    steps: int | None
    cost: float


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
        async with self._database.read() as connection:
            return (await self._current(connection)).seconds(work)

    async def done_at(self, connection: AsyncConnection, job_id: int) -> datetime | None:
        """When a waiting job will probably be done, if no more jobs pass it and as many are drawn at once as now."""
        rates, moment = await self._current(connection), now()
        job = (await connection.execute(select(_jobs).where(_jobs.c.id == job_id))).one()
        own = rates.seconds(Work(job.checkpoint, job.size, job.steps, job.cost))
        if own is None:
            return None
        running = (await connection.execute(select(_jobs).where(in_state(JobState.RUNNING)))).all()
        before = 0.0
        for row in running:
            elapsed = (moment - row.started_at).total_seconds()
            before += max(0.0, (rates.seconds(Work(row.checkpoint, row.size, row.steps, row.cost)) or 0.0) - elapsed)
        kind = (_jobs.c.checkpoint, _jobs.c.size, _jobs.c.steps)
        ahead = or_(_jobs.c.tag < job.tag, (_jobs.c.tag == job.tag) & (_jobs.c.id < job.id))
        grouped = select(*kind, func.sum(_jobs.c.cost)).where(in_state(JobState.QUEUED), not_paused(), ahead)
        for checkpoint, size, steps, cost in await connection.execute(grouped.group_by(*kind)):
            before += rates.seconds(Work(checkpoint, size, steps, cost)) or 0.0
        return moment + timedelta(seconds=before / max(1, len(running)) + own)

    async def _current(self, connection: AsyncConnection) -> _Rates:
        if not self._rates.samples or time.monotonic() - self._measured_at > REFRESH:
            columns = (_jobs.c.checkpoint, _jobs.c.size, _jobs.c.steps, _jobs.c.cost, _jobs.c.seconds)
            latest = select(*columns).where(_jobs.c.seconds.is_not(None)).order_by(_jobs.c.id.desc()).limit(MEASURED)
            rates = _Rates()
            for checkpoint, size, steps, cost, seconds in await connection.execute(latest):
                rates.add(Work(checkpoint, size, steps, cost), seconds)
            self._rates, self._measured_at = rates, time.monotonic()
        return self._rates
