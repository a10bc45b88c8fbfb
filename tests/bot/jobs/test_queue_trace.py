"""What a queue went through one afternoon: both databases hand the jobs out in the same order as they did then."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bot.jobs.closures import Closures
from bot.jobs.model import Closure, Job
from bot.jobs.queue import JobQueue
from bot.jobs.quota import Terms
from bot.storage.session import Database
from tests.bot.databases import EITHER_DATABASE

from .conftest import new_job
from .test_queue import stored

RECORD: dict[str, Any] = json.loads(Path(__file__).with_name("trace.json").read_text())


class Afternoon:
    """Replays the events; jobs are told by the order in which they were asked for, from 1."""

    def __init__(self, database: Database) -> None:
        self.queue = JobQueue(database, running_per_user=2)
        self.closures = Closures(database)
        self.numbers: dict[int, int] = {}
        self.running: list[Job] = []
        self.claimed: list[int | None] = []

    async def replay(self, events: list[dict[str, Any]]) -> list[int | None]:
        for event in events:
            ((name, value),) = event.items()
            await getattr(self, name)(value)
        return self.claimed

    async def ask(self, asked: dict[str, Any]) -> None:
        new = new_job(user_id=asked["user"], guild_id=asked["guild"], checkpoint=asked["checkpoint"])
        job = await self.queue.submit(new, cost=asked["cost"], terms=Terms(weight=asked["weight"]))
        self.numbers[job.id] = len(self.numbers) + 1

    async def claim(self, loaded: list[str]) -> None:
        job = await self.queue.claim(loaded=loaded)
        self.claimed.append(None if job is None else self.numbers[job.id])
        if job is not None:
            self.running.append(job)

    async def finish(self, which: int) -> None:
        if which < len(self.running):
            job = self.running.pop(which)
            await self.queue.rendered(job, [stored(job)], seconds=1.0)

    async def requeue(self, which: int) -> None:
        if which < len(self.running):
            await self.queue.requeue(self.running.pop(which))

    async def cancel(self, number: int) -> None:
        (job_id,) = (job_id for job_id, known in self.numbers.items() if known == number)
        await self.queue.cancel(job_id)
        self.running = [job for job in self.running if job.id != job_id]

    async def recover(self, _: bool) -> None:
        await self.queue.recover()
        self.running.clear()

    async def pause(self, guild_id: int) -> None:
        await self.closures.close(guild_id, Closure.PAUSED)

    async def open(self, guild_id: int) -> None:
        await self.closures.open(guild_id)


@EITHER_DATABASE
async def test_the_order_of_claims_is_the_recorded_one(database: Database) -> None:
    assert await Afternoon(database).replay(RECORD["events"]) == RECORD["claimed"]
