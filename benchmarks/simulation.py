"""The same replays where nothing is drawn: work takes what it took when it was measured, so that traces can be long.

The step loop is simulated around the engine's own `choose`; only what a step takes is looked up.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

import numpy as np

from benchmarks.replay import PREVIEW_EVERY, Draw, Log
from benchmarks.traces import Job
from t2i.engine.scheduler import choose


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds that work takes on one device.

    `steps`: of one engine step, by its rows. `plain`: (whole job but its steps, one step) of arm 1, by the rows of a
    step. The rest is of the engine: `admit` a request, `preview` and `finish` one picture.
    """

    steps: dict[int, float]
    plain: dict[int, tuple[float, float]]
    admit: float = 0.0
    preview: float = 0.0
    finish: float = 0.0

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

    def now(self) -> float:
        return self._now

    def skip_to(self, moment: float) -> None:
        self._now = max(self._now, moment)

    def work(self, seconds: float) -> None:
        self._now += seconds


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


def runner_draw(costs: Costs, clock: SimulatedClock) -> Draw:
    """The engine's steps without its loop: a batch stays together until its last picture is done."""

    def draw(jobs: list[Job], log: Log) -> None:
        clock.work(costs.admit * len(jobs))
        for step in range(1, max(job.steps for job in jobs) + 1):
            flying = [job for job in jobs if job.steps >= step]
            clock.work(costs.step(sum(job.rows for job in flying)))
            for job in flying:
                _tell(job, step, costs, clock, log)
        clock.work(costs.finish * sum(job.images for job in jobs))
        for job in jobs:
            log.finished(job.name)

    return draw


@dataclass(eq=False, slots=True)
class Flight:
    """A job in flight, as the scheduler sees it."""

    job: Job
    deadline: int
    arrived: int
    """Ticks that had begun then."""
    step: int = 0
    group: Hashable = field(default=None)

    @property
    def rows(self) -> int:
        return self.job.rows


def stepped(trace: list[Job], costs: Costs, clock: SimulatedClock, row_cap: int) -> Log:
    """The step loop: a tick takes whom the engine's scheduler chooses; newcomers are looked at before each."""
    log = Log(trace, clock)
    rest = list(reversed(trace))
    flying: list[Flight] = []
    ticks = 0
    began = 0.0
    while rest or flying:
        if not flying:
            clock.skip_to(rest[-1].arrival)
        while rest and rest[-1].arrival <= clock.now():
            job = rest.pop()
            # Who came during the last tick, or while it was prepared, could not have joined it.
            flying.append(Flight(job, deadline=ticks + job.steps, arrived=ticks if job.arrival > began else ticks - 1))
            clock.work(costs.admit)
        batch = choose(flying, row_cap)
        began = clock.now()
        clock.work(costs.step(sum(flight.rows for flight in batch)))
        ticks += 1
        for flight in batch:
            flight.step += 1
            log.stepped(flight.job.name, ticks - flight.arrived)
            _tell(flight.job, flight.step, costs, clock, log)
            if flight.step == flight.job.steps:
                clock.work(costs.finish * flight.job.images)
                log.finished(flight.job.name)
                flying.remove(flight)
    return log


def _tell(job: Job, step: int, costs: Costs, clock: SimulatedClock, log: Log) -> None:
    log.stepped(job.name)
    if step % PREVIEW_EVERY == 0 and step < job.steps:
        clock.work(costs.preview * job.images)
        log.previewed(job.name)
