"""Traces played to an arm: the work is really done and timed, only the waiting for arrivals is skipped.

A clock says what time it is for the trace. The real one runs with the work and jumps over gaps in which nothing is left
to do; the simulated one stands still until somebody says how long the work would have taken. Arms cannot tell which.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from benchmarks.traces import Job
from t2i.api import Done, Event, Failed, ImageReady, Progress, Submit

if TYPE_CHECKING:
    from t2i.engine.loop import StepLoop

PREVIEW_EVERY = 2
"""Steps, as the engine does when it is not told otherwise."""
WINDOW = 0.05
"""Seconds that a static batch waits for company."""
STATIC_ROWS = 16
"""Rows of a static batch at most."""


class Clock(Protocol):
    def now(self) -> float:
        """Seconds of the trace."""

    def skip_to(self, moment: float) -> None:
        """Nothing happens until then; a moment that is past changes nothing."""

    def worked(self) -> float:
        """Seconds so far that were not skipped."""


class RealClock:
    def __init__(self) -> None:
        self._zero = self._made = time.perf_counter()

    def now(self) -> float:
        return time.perf_counter() - self._zero

    def skip_to(self, moment: float) -> None:
        self._zero -= max(0.0, moment - self.now())

    def worked(self) -> float:
        return time.perf_counter() - self._made


@dataclass(slots=True)
class Record:
    """What became of a job; moments in seconds of the trace. `joined`: steps that the device began after the arrival,
    through the job's own first one."""

    job: Job
    first_step: float | None = None
    preview: float | None = None
    image: float | None = None
    """The first one."""
    done: float = 0.0
    joined: int | None = None

    @property
    def latency(self) -> float:
        return self.done - self.job.arrival

    @property
    def first_look(self) -> float:
        """Seconds until there is something to see."""
        seen = self.first_image if self.preview is None else self.preview - self.job.arrival
        return min(seen, self.first_image)

    @property
    def first_image(self) -> float:
        return (self.done if self.image is None else self.image) - self.job.arrival


class Log:
    """The records of one replay, in order of arrival."""

    def __init__(self, trace: list[Job], clock: Clock) -> None:
        self.clock = clock
        self._records = {job.name: Record(job) for job in trace}

    @property
    def records(self) -> list[Record]:
        return list(self._records.values())

    @property
    def seconds(self) -> float:
        """From the first arrival to the last picture."""
        return max(record.done for record in self.records) - min(record.job.arrival for record in self.records)

    @property
    def images_per_second(self) -> float:
        return sum(record.job.images for record in self.records) / self.seconds

    def stepped(self, name: str, step: int = 1, ticks: int | None = None) -> None:
        """`step` of the job is done, when the device has begun `ticks` since it arrived. Whoever hears of it late, or
        of a job that had to pause, counts too many; the least of all steps is right."""
        record = self._records[name]
        if record.first_step is None:
            record.first_step = self.clock.now()
        if ticks is not None:
            joined = ticks - (step - 1)
            record.joined = joined if record.joined is None else min(record.joined, joined)

    def previewed(self, name: str) -> None:
        record = self._records[name]
        if record.preview is None:
            record.preview = self.clock.now()

    def finished(self, name: str) -> None:
        """A picture is there."""
        record = self._records[name]
        record.done = self.clock.now()
        if record.image is None:
            record.image = record.done


Draw = Callable[[list[Job], Log], None]
"""Draws these jobs, together if it can, and logs what happens to them."""


def one_by_one(trace: list[Job], draw: Draw, clock: Clock) -> Log:
    """Whole jobs in order of arrival."""
    log = Log(trace, clock)
    for job in trace:
        clock.skip_to(job.arrival)
        draw([job], log)
    return log


def static_batches(trace: list[Job], draw: Draw, clock: Clock) -> Log:
    """Whoever waits, and whoever comes within the window, is drawn together and answered together."""
    log = Log(trace, clock)
    rest = list(trace)
    while rest:
        clock.skip_to(rest[0].arrival + WINDOW)
        batch: list[Job] = []
        while rest and rest[0].arrival <= clock.now() and _rows(batch) + rest[0].rows <= STATIC_ROWS:
            batch.append(rest.pop(0))
        draw(batch, log)
    return log


def _rows(batch: list[Job]) -> int:
    return sum(job.rows for job in batch)


class Engine:
    """The real step loop on a thread of its own, as the worker process has it, fed from a trace."""

    def __init__(self, build: Callable[[Callable[[Event], None]], StepLoop], checkpoint: str) -> None:
        self._build = build
        self._checkpoint = checkpoint

    def replay(
        self, trace: list[Job], clock: Clock, *, at_once: int | None = None, preview_every: int = PREVIEW_EVERY
    ) -> Log:
        """Every job is submitted when it arrives or, with `at_once`, when no more than that are in flight then.

        Raises RuntimeError when a request fails.
        """
        log = Log(trace, clock)
        changed = threading.Condition()
        flying: dict[str, int] = {}
        """Names in flight, and the ticks that had begun when they arrived."""
        failures: list[str] = []

        def hear(event: Event) -> None:
            match event:
                case Progress(request_id=name):
                    log.stepped(name, event.step, loop.ticks - flying[name])
                    if event.preview is not None:
                        log.previewed(name)
                case ImageReady(request_id=name):
                    log.finished(name)
                case Done(request_id=name) | Failed(request_id=name):
                    if isinstance(event, Failed):
                        failures.append(event.message)
                    with changed:
                        del flying[name]
                        changed.notify()

        loop = self._build(hear)

        def run() -> None:
            try:
                loop.run()
            except Exception as error:
                with changed:
                    failures.append(repr(error))
                    flying.clear()
                    changed.notify()

        thread = threading.Thread(target=run, name="steps")
        thread.start()
        for job in trace:
            with changed:
                while len(flying) == at_once:
                    changed.wait()
                while flying and (wait := job.arrival - clock.now()) > 0:
                    changed.wait(wait)
                if failures:
                    break
                clock.skip_to(job.arrival)
                # A tick under way began before this arrival.
                flying[job.name] = loop.ticks + bool(flying)
            loop.submit(
                Submit(
                    request_id=job.name,
                    checkpoint=self._checkpoint,
                    request=job.request,
                    preview_every=preview_every,
                    user=job.user,
                )
            )
        loop.drain()
        thread.join()
        if failures:
            raise RuntimeError(f"{len(failures)} requests failed: {failures[0]}")
        return log
