"""What is compared: ways to serve a trace, each a function of it and of a clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from msgspec.structs import replace as with_fields

from benchmarks.plain import Plain
from benchmarks.replay import Clock, Draw, Engine, Log, one_by_one, static_batches
from benchmarks.simulation import Costs, SimulatedClock, plain_draw, stepped, together_draw, whole_draw
from benchmarks.traces import Job
from t2i.engine import runner
from t2i.engine.calibration import Profile
from t2i.families.model import Model
from t2i.imaging.encode import encode_png

Arm = Callable[[list[Job], Clock], Log]

PLAIN = "diffusers"
COMPILED = "diffusers, compiled"
STATIC = "static batches"
WHOLE = "whole jobs"
OURS = "ours"
EXACT = "ours, exact"


def real(model: Model, plain: Plain, engine: Engine) -> dict[str, Arm]:
    """Arms that really draw, all in this process and with the same weights. The compiled one is added by itself."""
    return {
        PLAIN: one_at_a_time(plain),
        STATIC: lambda trace, clock: static_batches(trace, _runner_draw(model), clock),
        WHOLE: lambda trace, clock: engine.replay(trace, clock, at_once=1),
        OURS: engine.replay,
        EXACT: lambda trace, clock: engine.replay([_exactly(job) for job in trace], clock),
    }


def simulated(costs: Costs, profile: Profile) -> dict[str, Callable[[list[Job]], Log]]:
    """The same arms by what their work was measured to take; `profile` is what the engine knows of its steps."""

    def on_own_clock(arm: Callable[[list[Job], SimulatedClock], Log]) -> Callable[[list[Job]], Log]:
        return lambda trace: arm(trace, SimulatedClock())

    return {
        PLAIN: on_own_clock(lambda trace, clock: one_by_one(trace, plain_draw(costs, clock), clock)),
        STATIC: on_own_clock(lambda trace, clock: static_batches(trace, together_draw(costs, clock), clock)),
        WHOLE: on_own_clock(lambda trace, clock: one_by_one(trace, whole_draw(costs, clock), clock)),
        OURS: on_own_clock(lambda trace, clock: stepped(trace, costs, profile, clock)),
    }


def one_at_a_time(plain: Plain) -> Arm:
    """Arm 1, and arm 2 where its network is compiled."""

    def draw(jobs: list[Job], log: Log) -> None:
        for job in jobs:
            for picture in plain.draw(job.request):
                encode_png(picture)
            log.finished(job.name)

    return lambda trace, clock: one_by_one(trace, draw, clock)


def _runner_draw(model: Model) -> Draw:
    """The engine's steps without its loop; nothing is seen before the end."""

    def draw(jobs: list[Job], log: Log) -> None:
        sequences = [runner.admit(model, job.request, job.name) for job in jobs]
        while flying := [sequence for sequence in sequences if not sequence.finished]:
            runner.step(model, flying)
        for sequence in sequences:
            runner.results(model, sequence)
        for job in jobs:
            log.finished(job.name)

    return draw


def _exactly(job: Job) -> Job:
    return replace(job, request=with_fields(job.request, exact=True))
