"""Three checkpoints on a device with room for one: the bot's own claims and the engine's own rules, in imagined time.

Loading takes as long as drawing four pictures. The queue, which prefers what is loaded, and the device, where a model
stays for as long as it took to load, together bound how often models are loaded and how long anybody waits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from bot.jobs.model import Job, JobKind, NewJob
from bot.jobs.queue import JobQueue
from bot.prompt.options import JobOptions
from bot.storage.session import Database
from t2i import checkpoints
from t2i.api import Hardware
from t2i.engine.models import Models

JOBS = 48
NAMES = ("a", "b", "c")
LOAD, DRAW = 4.0, 1.0
SLOTS = 16


class Device:
    """Draws one job after the other, of those whose model is there, in the order in which they were given to it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.loads: list[str] = []
        self.flying: list[Job] = []
        self._waiting: dict[str, list[Job]] = {}
        self._coming: dict[str, Future[Any]] = {}
        monkeypatch.setattr(checkpoints, "available", lambda folder: {name: Path(name) for name in NAMES})
        monkeypatch.setattr(Models, "_size", lambda models, name, path: 1)
        monkeypatch.setattr("t2i.engine.models.Residence", Weightless)
        monkeypatch.setattr(Models, "_read", lambda models, path: Weightless(path))
        hardware = Hardware(device="cpu")
        self.models = Models(None, hardware, device_budget=1, memory_budget=0, clock=lambda: self.now)

    def take(self, job: Job) -> None:
        if self.models.get(job.checkpoint):
            self.flying.append(job)
            return
        if job.checkpoint not in self._waiting:
            self._waiting[job.checkpoint] = []
            self._coming[job.checkpoint] = self.models.load(job.checkpoint, busy=self._busy)
        self._waiting[job.checkpoint].append(job)

    def draw_one(self) -> Job:
        """Let time pass until the next job is done."""
        self.models.settle(self._busy)
        while not self.flying:
            name = next(iter(self._coming))
            model = self._coming.pop(name).result(10)
            self.now += LOAD
            self.loads.append(name)
            self.models.add(name, model)
            self.flying += self._waiting.pop(name)
        self.now += DRAW
        return self.flying.pop(0)

    @property
    def in_flight(self) -> int:
        return len(self.flying) + sum(len(jobs) for jobs in self._waiting.values())

    @property
    def _busy(self) -> frozenset[str]:
        return frozenset(job.checkpoint for job in self.flying)


class Weightless:
    """A model that rests nowhere and weighs as much as every other."""

    size, copied = 1, 0

    def __init__(self, model: object) -> None:
        self.model = model

    def measure(self) -> int:
        return 1

    def discard(self) -> None:
        pass


@pytest.fixture
async def queue(tmp_path: Path) -> AsyncIterator[JobQueue]:
    database = Database(f"sqlite+aiosqlite:///{tmp_path / 'imagine.db'}")
    await database.upgrade()
    yield JobQueue(database)
    await database.close()


async def test_48_interleaved_jobs_of_three_checkpoints_need_six_loads_and_nobody_waits_twice_the_fair_time(
    queue: JobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = Device(monkeypatch)
    submitted = [await queue.submit(job(number), cost=1.0) for number in range(JOBS)]
    done: dict[int, float] = {}
    while len(done) < JOBS:
        while device.in_flight < SLOTS and (claimed := await queue.claim(loaded=device.models.loaded)):
            device.take(claimed)
        drawn = device.draw_one()
        done[drawn.id] = device.now
        assert await queue.fail(drawn, "drawn, as far as this test is concerned")
    # Fair is the order in which they came, with a load whenever the checkpoint changes, as it does every time.
    fair = {job.id: turn * (LOAD + DRAW) for turn, job in enumerate(submitted, 1)}
    assert max(done[job_id] / fair[job_id] for job_id in fair) <= 2
    assert len(device.loads) <= 6 and set(Counter(device.loads)) == set(NAMES)


def job(number: int) -> NewJob:
    options = JobOptions(prompt="a red apple", images=1)
    return NewJob(number, "secret", JobKind.IMAGINE, options, NAMES[number % 3], number, 500, 900)


def test_a_model_stays_for_as_long_as_it_took_to_load_though_others_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(monkeypatch)
    models, busy = device.models, frozenset("a")
    first = models.load("a")
    device.now = LOAD
    models.add("a", first.result(10))
    other = models.load("b", busy=busy)
    while device.now < 2 * LOAD:
        models.settle(busy)
        assert models.get("a") and not other.done()
        device.now += DRAW
    models.settle(busy)
    assert models.get("a") is None and not other.done()
    models.settle(frozenset())
    assert other.result(10)
