"""Stopwatches: what a step, a job, a preview or a load takes, and what the device could do at best."""

from __future__ import annotations

import gc
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.arms import OURS
from benchmarks.plain import Plain
from benchmarks.simulation import Costs
from benchmarks.traces import PROMPTS, Mix
from t2i.api import GenerationRequest
from t2i.engine import runner
from t2i.families.model import Model
from t2i.imaging.encode import encode_png

Work = Callable[[], object]


Clock = Callable[[], float]


def timed(work: Work, device: torch.device, clock: Clock = time.perf_counter) -> float:
    """Seconds by the clock, waiting for the device too."""
    _finish(device)
    began = clock()
    work()
    _finish(device)
    return clock() - began


def interleaved(
    works: dict[str, Work], rounds: int, device: torch.device, clock: Clock = time.perf_counter
) -> dict[str, list[float]]:
    """The seconds of each, in turns A B A B after one round that does not count, so that a machine which is busy for a
    while slows all of them alike."""
    for work in works.values():
        work()
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            times[name].append(timed(work, device, clock))
    return times


def best(
    works: dict[str, Work], rounds: int, device: torch.device, clock: Clock = time.perf_counter
) -> dict[str, float]:
    """The least seconds of each: what others do on the machine only ever adds to them."""
    return {name: min(times) for name, times in interleaved(works, rounds, device, clock).items()}


def step_times(
    model: Model,
    networks: dict[str, Callable[[int], None]],
    mix: Mix,
    rows: Iterable[int],
    *,
    rounds: int,
) -> dict[str, dict[int, float]]:
    """The least seconds of one engine step, and of one forward of other networks, by the rows of the batch."""
    found: dict[str, dict[int, float]] = {name: {} for name in (*networks, OURS)}
    for count in rows:
        works: dict[str, Work] = {name: partial(forward, count) for name, forward in networks.items()}
        works[OURS] = partial(runner.step, model, _in_flight(model, mix, count, rounds + 2))
        for name, times in interleaved(works, rounds, model.device).items():
            found[name][count] = min(times)
    return found


def costs(
    model: Model, plain: Plain, mix: Mix, *, steps: dict[int, float], images: Iterable[int], rounds: int
) -> Costs:
    """What a simulation has to know, beside the steps already measured."""
    few, many = 1, 5
    whole: dict[int, tuple[float, float]] = {}
    for count in images:
        for scale in (1.0, 3.0):
            works: dict[str, Work] = {
                str(steps): partial(_plain_job, plain, request_for(mix, count, steps, scale)) for steps in (few, many)
            }
            taken = best(works, rounds, model.device)
            step = (taken[str(many)] - taken[str(few)]) / (many - few)
            whole[count * (1 if scale == 1.0 else 2)] = max(0.0, taken[str(few)] - step), step
    request = request_for(mix, 1, 2, 3.0)
    done = runner.admit(model, request, "done")
    runner.step(model, [done])
    runner.step(model, [done])
    parts: dict[str, Work] = {
        "admit": lambda: runner.admit(model, request, "admitted"),
        "finish": lambda: runner.results(model, done),
    }
    return Costs(steps=steps, plain=whole, **best(parts, rounds, model.device))


def matmul_peak(device: torch.device, dtype: torch.dtype, side: int, rounds: int) -> float:
    """FLOP/s of the best of several square matrix products."""
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    with torch.inference_mode():
        left @ right
        return 2 * side**3 / min(timed(lambda: left @ right, device) for _ in range(rounds))


def flops(work: Work) -> int:
    """Floating-point operations of matrix products, convolutions and attention."""
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


def forget(device: torch.device) -> None:
    """Give back the memory of what was measured before, and count its peak anew."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: torch.device) -> dict[str, float]:
    """Gigabytes at most so far: resident in this process, and allocated on the card."""
    # Linux counts in kilobytes, macOS in bytes.
    unit = 1e9 if sys.platform == "darwin" else 1e6
    found = {"resident_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 3)}
    if device.type == "cuda":
        found["cuda_gb"] = round(torch.cuda.max_memory_allocated(device) / 1e9, 3)
    return found


@contextmanager
def stopwatch(found: dict[str, Any], name: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    found[name] = round(time.perf_counter() - began, 3)


def _in_flight(model: Model, mix: Mix, rows: int, steps: int) -> list[runner.Job]:
    """Requests of one picture that take `rows` together."""
    scales = [3.0] * (rows // 2) + [1.0] * (rows % 2)
    return [
        runner.admit(model, request_for(mix, 1, steps, scale, index), str(index)) for index, scale in enumerate(scales)
    ]


def request_for(mix: Mix, images: int, steps: int, scale: float, seed: int = 0) -> GenerationRequest:
    return GenerationRequest(
        prompt=PROMPTS[0],
        images=images,
        steps=steps,
        guidance_scale=scale,
        sampler=mix.samplers[0],
        seed=seed,
        width=mix.size,
    )


def _plain_job(plain: Plain, request: GenerationRequest) -> None:
    for picture in plain.draw(request):
        encode_png(picture)


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
