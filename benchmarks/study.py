"""One checkpoint measured from every side, part by part; what is asked of the figures is in `suites`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from typing import Any

import torch

import t2i.checkpoints
from benchmarks import arms, measure
from benchmarks.arms import COMPILED, OURS, PLAIN, STATIC, WHOLE
from benchmarks.compiled import compile_plain
from benchmarks.replay import PREVIEW_EVERY, Engine, Log, RealClock, Record
from benchmarks.simulation import Costs
from benchmarks.subjects import Subject
from benchmarks.traces import FLOOD, Job, Mix, flooded, poisson
from t2i.api import Event, GenerationRequest, Hardware
from t2i.engine import runner
from t2i.engine.calibration import Calibration, Key, Profile
from t2i.engine.loop import StepLoop
from t2i.engine.models import Models
from t2i.engine.sequence import Kind, Sequence
from t2i.engine.worker import ROWS_PER_TICK
from t2i.families.model import Model
from t2i.families.pipeline import AnyModel

SEED = 7
LOADS = (0.5, 0.7, 0.95, 1.5)
"""Shares of what arm 1 can do with single pictures, or with grids of four."""
CHECKED_LOAD = 0.7
LIGHT_LOAD, FLOOD_LOAD, LIGHT_USERS = 0.5, 1.0, 7


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to look: more is less noisy."""

    rounds: int
    """Repetitions of what takes less than a second."""
    saturated: int
    """Jobs that each arm draws when everything is asked for at once; half as many where an arm is of less interest, or
    where a job takes long."""
    checked: int
    """Jobs of the real replay that the simulation is held against."""
    simulated: int
    """Jobs of a simulated trace."""
    calibration_seconds: float
    """For each kind of forward, by the engine itself."""
    peak_side: int
    """Rows and columns of the matrices whose product says what the device can do."""
    compile_seconds: float | None
    """For arm 2; None as long as it takes, and 0 does without it."""


@dataclass(frozen=True, slots=True)
class Checked:
    """A trace that was really drawn, and simulated."""

    real: Log
    simulated: Log
    slowness: float
    """Of the device meanwhile, against the costs measured before."""


class _Beforehand(Calibration):
    """A step loop that starts would go through it again in the first quiet moment of a replay."""

    def welcome(self, checkpoint: str, model: AnyModel) -> None:
        pass


class Study:
    """Figures of one subject. Parts are measured when first asked for; `say` is told what is going on."""

    def __init__(self, subject: Subject, effort: Effort, say: Callable[[str], None]) -> None:
        self.subject, self.effort, self.say = subject, effort, say
        self.device = subject.model.device
        self._row_cap = ROWS_PER_TICK[self.device.type]
        self._models = Models(None, Hardware(device=str(self.device)))
        self._models.add(subject.name, subject.model)
        self._engine = Engine(self._loop, subject.name)
        self._real = arms.real(subject.model, subject.plain, self._engine)

    def _loop(self, emit: Callable[[Event], None]) -> StepLoop:
        return StepLoop(self._models, emit, row_cap=self._row_cap, calibration=self.calibration)

    @cached_property
    def calibration(self) -> Calibration:
        """What the engine measures of itself when it is idle, measured beforehand and forgotten afterwards."""
        self.say("calibrating the engine")
        name, model = self.subject.name, self.subject.model
        calibration = _Beforehand(None, most_rows=self._row_cap, budget=self.effort.calibration_seconds)
        super(_Beforehand, calibration).welcome(name, model)
        while calibration.measure([name]):
            pass
        return calibration

    @property
    def profile(self) -> Profile:
        """Of the steps that the jobs take."""
        (job,) = poisson(self.mix(1), 1, 1.0, SEED)
        stage, *_ = self.subject.model.stages(job.request)
        profile = self.calibration.profile(Key.of(self.subject.model, Kind(stage.name, stage.shape)))
        assert profile is not None
        return profile

    def mix(self, images: int) -> Mix:
        return replace(self.subject.mix, images=images)

    # --- the pictures are the same --------------------------------------------------------------------------------

    def equality(self) -> dict[str, float]:
        """The largest relative error of latents against arm 1, of requests stepped together with unlike settings, by
        the precision that our network computes in."""
        self.say("comparing pictures with those of diffusers")
        samplers = [name for name in self.subject.mix.samplers if name != "euler_a"]  # draws noise of its own
        requests = [
            GenerationRequest(
                prompt=f"a red apple number {index}",
                images=1 + index % 2,
                steps=steps,
                sampler=samplers[index % len(samplers)],
                guidance_scale=scale,
                seed=SEED + index,
                width=self.subject.mix.size,
            )
            for index, (steps, scale) in enumerate([(4, 1.0), (8, 3.0), (8, 7.5), (20, 2.0)])
        ]
        expected = [self.subject.plain.latents(request) for request in requests]
        found = {self.subject.dtype: _largest_error(self.subject.model, requests, expected)}
        if self.subject.in_float32 is not None:
            found["float32"] = _largest_error(self.subject.in_float32(), requests, expected)
        return found

    # --- the network ----------------------------------------------------------------------------------------------

    @cached_property
    def step_times(self) -> dict[str, dict[int, float]]:
        self.say("timing steps")
        subject = self.subject
        networks = {PLAIN: subject.plain.forward, **subject.networks}
        return measure.step_times(subject.model, networks, subject.mix, subject.rows, rounds=self.effort.rounds)

    @cached_property
    def costs(self) -> Costs:
        self.say("timing the rest of a job")
        subject, steps = self.subject, self.step_times[OURS]
        return measure.costs(
            subject.model, subject.plain, subject.mix, steps=steps, images=(1, 4), rounds=self.effort.rounds
        )

    def network(self) -> dict[str, Any]:
        """Steps, and which share of the device's matrix products they are, each against the peak in its precision."""
        subject, effort = self.subject, self.effort
        plain = str(subject.plain.unet.dtype).removeprefix("torch.")
        dtypes = dict.fromkeys(self.step_times, subject.dtype) | {PLAIN: plain}
        peaks = {
            dtype: measure.matmul_peak(self.device, getattr(torch, dtype), effort.peak_side, effort.rounds)
            for dtype in set(dtypes.values())
        }
        work = {rows: measure.flops(partial(subject.plain.forward, rows)) for rows in subject.rows}
        return {
            "dtypes": dtypes,
            "matmul_peak_tflops": {dtype: round(peak / 1e12, 4) for dtype, peak in peaks.items()},
            "gflop_per_row": round(work[1] / 1e9, 3),
            "best_rows": {name: Profile(times).best for name, times in self.step_times.items()},
            "calibrated": {"best_rows": self.profile.best, "seconds": _rounded(self.profile.seconds)},
            "step_seconds": {name: _rounded(times) for name, times in self.step_times.items()},
            "utilisation": {
                name: _rounded({rows: work[rows] / seconds / peaks[dtypes[name]] for rows, seconds in times.items()})
                for name, times in self.step_times.items()
            },
            "costs": {name: value for name, value in asdict(self.costs).items() if name != "steps"},
        }

    def grid(self) -> dict[str, float]:
        """Seconds for a grid of four, drawn by arm 1 and by the engine's steps, without making files of it."""
        self.say("drawing grids of four")
        subject = self.subject
        request = GenerationRequest(
            prompt="a red apple",
            images=4,
            steps=20,
            seed=SEED,
            sampler=subject.mix.samplers[0],
            guidance_scale=3.0,
            width=subject.mix.size,
        )

        def ours() -> None:
            sequence = runner.admit(subject.model, request, "grid")
            while not sequence.finished:
                runner.step(subject.model, [sequence])

        works: dict[str, measure.Work] = {PLAIN: lambda: subject.plain.latents(request), OURS: ours}
        return measure.best(works, -(-self.effort.rounds // 2), self.device)

    def previews(self) -> dict[str, float]:
        """Seconds of a request of twenty steps by itself in the real loop, with previews and without; on a CPU its own
        seconds of all threads, because a few per cent are lost among what others do on the machine."""
        self.say("timing previews")
        (job,) = poisson(replace(self.subject.mix, deck=(20,), guidance=(3.0,)), 1, 1.0, SEED)

        def draw(every: int) -> None:
            self._engine.replay([job], RealClock(), preview_every=every)

        works: dict[str, measure.Work] = {"with": partial(draw, PREVIEW_EVERY), "without": partial(draw, 0)}
        clock = time.process_time if self.device.type == "cpu" else time.perf_counter
        return measure.best(works, 2 * self.effort.rounds, self.device, clock)

    # --- throughput -----------------------------------------------------------------------------------------------

    def compile(self, mix: Mix) -> dict[str, Any]:
        """Make arm 2 of arm 1, which from now on is compiled; measure arm 1 before."""
        self.say("compiling the network of diffusers")
        found: dict[str, Any] = {}
        compile_plain(self.subject.plain, mix, self.device, found)
        self._real[COMPILED] = arms.one_at_a_time(self.subject.plain)
        return found

    def saturation(self, mix: Mix, jobs: int, chosen: tuple[str, ...]) -> dict[str, float]:
        """Images a second of each arm when everything is asked for at once: whole decks in turns A B A B."""
        seconds = dict.fromkeys(chosen, 0.0)
        rounds = -(-jobs // len(mix.deck))
        each = min(jobs, len(mix.deck))
        for turn in range(rounds):
            trace = poisson(mix, each, float("inf"), SEED + turn)
            for name in chosen:
                self.say(f"{mix.images} to a job at saturation, turn {turn + 1} of {rounds}: {name}")
                seconds[name] += self._real[name](trace, RealClock()).seconds
        return {name: round(rounds * each * mix.images / taken, 4) for name, taken in seconds.items()}

    # --- latency --------------------------------------------------------------------------------------------------

    def capacity(self, images: int, arm: str = PLAIN) -> float:
        """Jobs a second that an arm can do, by what its work was measured to take."""
        trace = poisson(self.mix(images), 200, float("inf"), SEED)
        return len(trace) / self._simulate(arm, trace).seconds

    def over_load(self, images: int) -> Iterator[tuple[float, dict[str, Log]]]:
        """Simulated replays of every arm at every load."""
        for load in LOADS:
            yield load, self._at(load * self.capacity(images), images, (PLAIN, STATIC, WHOLE, OURS))

    def equally_busy(self, images: int, load: float) -> dict[str, Log]:
        """Whole jobs and ours where the load is a share of what whole jobs can do on our steps, not of arm 1's: what
        the order of steps alone is worth."""
        return self._at(load * self.capacity(images, WHOLE), images, (WHOLE, OURS))

    def _at(self, rate: float, images: int, chosen: tuple[str, ...]) -> dict[str, Log]:
        self.say(f"{images} to a job, {rate:.2f} jobs/s: {self.effort.simulated} jobs, simulated")
        trace = poisson(self.mix(images), self.effort.simulated, rate, SEED)
        return {name: self._simulate(name, trace) for name in chosen}

    def checked(self) -> dict[str, Checked]:
        """Whole jobs and ours, really drawn and simulated, on one trace of single pictures.

        The simulation works as fast as the device did during the very replay that it is held against: a machine is not
        equally busy all the time, and waiting multiplies what it loses.
        """
        trace = poisson(self.mix(1), self.effort.checked, CHECKED_LOAD * self.capacity(1), SEED)
        found = {}
        for name in (WHOLE, OURS):
            self.say(f"{len(trace)} jobs at load {CHECKED_LOAD}, really drawn: {name}")
            clock = RealClock()
            real = self._real[name](trace, clock)
            slowness = clock.worked() / self._simulate(name, trace).clock.worked()
            found[name] = Checked(real, self._simulate(name, trace, self.costs.scaled(slowness)), slowness)
        return found

    def flood(self) -> dict[str, Log]:
        """Seven light users, alone and beside one who floods; simulated, ours."""
        self.say("one user floods, simulated")
        capacity, mix = self.capacity(1), self.mix(1)
        light = poisson(mix, self.effort.simulated // 4, LIGHT_LOAD * capacity, SEED, users=LIGHT_USERS)
        both = flooded(light, mix, FLOOD_LOAD * capacity, SEED + 1)
        return {"light": self._simulate(OURS, light), "flooded": self._simulate(OURS, both)}

    def _simulate(self, arm: str, trace: list[Job], costs: Costs | None = None) -> Log:
        return arms.simulated(costs or self.costs, self.profile)[arm](trace)

    # --- loading --------------------------------------------------------------------------------------------------

    def load_seconds(self) -> float:
        """From disk to the device, by a process that has read the files before."""
        began = time.perf_counter()
        t2i.checkpoints.load(self.subject.folder, str(self.device), dtype=self.subject.dtype)
        return time.perf_counter() - began


def others(record: Record) -> bool:
    """Whoever does not flood."""
    return record.job.user != FLOOD


def _largest_error(model: Model, requests: list[GenerationRequest], expected: list[torch.Tensor]) -> float:
    sequences = [Sequence(model, request, request.prompt, None) for request in requests]
    while flying := [sequence for sequence in sequences if not sequence.finished]:
        runner.step(model, [*flying])
    return max(
        float((sequence.latents - latents).norm() / latents.norm())
        for sequence, latents in zip(sequences, expected, strict=True)
    )


def _rounded(values: dict[int, float]) -> dict[str, float]:
    return {str(rows): round(value, 5) for rows, value in values.items()}
