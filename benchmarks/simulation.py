"""The same replays where nothing is drawn: work takes what it took when it was measured, so that traces can be long.

The step loop is simulated around the engine's own scheduler and calibration; only what a step takes is looked
up.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np

from benchmarks.replay import PREVIEW_EVERY, Draw, Log
from benchmarks.traces import Job
from t2i.engine.calibration import Profile
from t2i.engine.scheduler import Scheduler


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds that work takes on one device.

    `steps`: of one engine step, by its rows. `plain`: (whole job but its steps, one step) of arm 1, by the rows of a
    step. The rest is of the engine: `admit` a request, `finish` one picture.
    """

    steps: dict[int, float]
    plain: dict[int, tuple[float, float]]
    admit: float = 0.0
    finish: float = 0.0

    def scaled(self, factor: float) -> Costs:
        """Of a device so many times as slow."""
        return Costs(
            steps={rows: factor * seconds for rows, seconds in self.steps.items()},
            plain={rows: (factor * fixed, factor * step) for rows, (fixed, step) in self.plain.items()},
            admit=factor * self.admit,
            finish=factor * self.finish,
        )

    def step(self, rows: int) -> float:
        """Between measured numbers of rows on a straight line, and beyond the last one at its rate."""
        most = max(self.steps)
        if rows > most:
            return self.steps[most] * rows / most
        known = sorted(self.steps)
        return float(np.interp(rows, known, [self.steps[count] for count in known]))


class SimulatedClock:
    def __init__(self) -> None:
        self._now = 0.0
        self._worked = 0.0

    def now(self) -> float:
        return self._now

    def skip_to(self, moment: float) -> None:
        self._now = max(self._now, moment)

    def work(self, seconds: float) -> None:
        self._now += seconds
        self._worked += seconds

    def worked(self) -> float:
        return self._worked


def plain_draw(costs: Costs, clock: SimulatedClock) -> Draw:
    """Arm 1."""

    def draw(jobs: list[Job], log: Log) -> None:
        for job in jobs:
            fixed, step = costs.plain[job.rows]
            clock.work(step)
            log.stepped(job.name)
            clock.work(fixed + step * (job.steps - 1))
            log.finished(job.name)

    return draw


def whole_draw(costs: Costs, clock: SimulatedClock) -> Draw:
    """A job by itself on the engine's steps."""

    def draw(jobs: list[Job], log: Log) -> None:
        for job in jobs:
            clock.work(costs.admit)
            for step in range(1, job.steps + 1):
                clock.work(costs.step(job.rows))
                _tell(job, step, log)
            clock.work(costs.finish * job.images)
            log.finished(job.name)

    return draw


def together_draw(costs: Costs, clock: SimulatedClock) -> Draw:
    """A batch on the engine's steps, which stays together until its last picture is done."""

    def draw(jobs: list[Job], log: Log) -> None:
        clock.work(costs.admit * len(jobs))
        for step in range(1, max(job.steps for job in jobs) + 1):
            clock.work(costs.step(sum(job.rows for job in jobs if job.steps >= step)))
        clock.work(costs.finish * sum(job.images for job in jobs))
        for job in jobs:
            log.finished(job.name)

    return draw


@dataclass(eq=False, slots=True)
class Flight:
    """A job in flight, as the scheduler sees it."""

    job: Job
    row_microseconds: int
    arrived: int
    """Ticks that had begun then."""
    step: int = 0
    group: Hashable = None

    @property
    def rows(self) -> int:
        return self.job.rows

    @property
    def work(self) -> int:
        return (self.job.steps - self.step) * self.rows * self.row_microseconds


def stepped(trace: list[Job], costs: Costs, profile: Profile, clock: SimulatedClock) -> Log:
    """The step loop: a tick takes whom the engine's scheduler chooses; newcomers are looked at before each."""
    log = Log(trace, clock)
    rest = list(reversed(trace))
    scheduler: Scheduler[Flight] = Scheduler()
    ticks = 0
    while rest or len(scheduler):
        if not len(scheduler):
            clock.skip_to(rest[-1].arrival)
        while rest and rest[-1].arrival <= clock.now():
            job = rest.pop()
            scheduler.add(Flight(job, profile.row_microseconds, arrived=ticks), user=job.user)
            clock.work(costs.admit)
        batch = scheduler.choose(lambda _: profile.room)
        clock.work(costs.step(sum(flight.rows for flight in batch)))
        ticks += 1
        for flight in batch:
            flight.step += 1
        scheduler.charge(batch)
        for flight in batch:
            log.stepped(flight.job.name, flight.step, ticks - flight.arrived)
            _tell(flight.job, flight.step, log)
            if flight.step == flight.job.steps:
                clock.work(costs.finish * flight.job.images)
                log.finished(flight.job.name)
                scheduler.remove(flight)
    return log


def _tell(job: Job, step: int, log: Log) -> None:
    """Previews are made beside the steps, so they take none of their time."""
    log.stepped(job.name)
    if step % PREVIEW_EVERY == 0 and step < job.steps:
        log.previewed(job.name)
