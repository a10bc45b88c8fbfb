"""`t2i bench`: which subjects are measured, how long, and what must come out."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks import figures, measure, plots, report, subjects
from benchmarks.arms import COMPILED, OURS, PLAIN, WHOLE
from benchmarks.figures import Figures
from benchmarks.gates import Gate, at_least, at_most
from benchmarks.study import Effort, Study
from benchmarks.switching import switch_seconds
from t2i.checkpoints.registry import pick_device

CPU = Effort(
    rounds=5, saturated=40, checked=30, simulated=4000, calibration_seconds=6, peak_side=2048, compile_seconds=0
)
GPU = Effort(
    rounds=15, saturated=40, checked=60, simulated=4000, calibration_seconds=6, peak_side=8192, compile_seconds=None
)
SMALL = Effort(
    rounds=1, saturated=4, checked=4, simulated=60, calibration_seconds=0.2, peak_side=256, compile_seconds=0
)

Say = Callable[[str], None]
Part = Callable[[], tuple[Figures, list[Gate]]]


def run(suite: str, json_file: Path | None, plots_dir: Path | None, *, small: bool, say: Say) -> int:
    """Measure, print the table, write what was asked for. 0 when every gate holds, else 1."""
    began = time.monotonic()
    device = pick_device("cpu" if suite == "cpu" else "auto")
    conditions = {"device": report.describe(device), "small": small}
    parts = None if json_file is None or suite == "cpu" else json_file.with_suffix(".parts")
    with (
        tempfile.TemporaryDirectory()
        if parts is None
        else nullcontext(parts / ("tiny" if small else "checkpoints")) as scratch
    ):
        measured = (cpu if suite == "cpu" else gpu)(device, Path(scratch), small=small, say=say)
        found: Figures = {}
        gates: list[Gate] = []
        for name, part in measured.items():
            measure.forget(device)
            found[name], kept = part() if parts is None else _resumed(parts / f"{name}.json", part, conditions, say)
            gates += kept
    result = report.compose(suite, device, found, gates, seconds=time.monotonic() - began)
    if json_file:
        json_file.write_text(json.dumps(result, indent=2) + "\n")
    if plots_dir:
        plots.draw(result, plots_dir)
    report.show(result)
    return 0 if all(gate.ok for gate in gates) else 1


def cpu(device: torch.device, scratch: Path, *, small: bool, say: Say) -> dict[str, Part]:
    """The embedded checkpoint on two cores: under eight minutes."""
    effort = SMALL if small else CPU

    def embedded() -> tuple[Figures, list[Gate]]:
        study = Study(subjects.embedded(device, scratch, small=small), effort, say)
        found = _people(study, grids=True)
        found["compiled"] = figures.compiled_arm(study, study.mix(1), effort.saturated // 2)
        found["loading"] = figures.loading(study)
        found["memory"] = measure.peak_memory(device)
        return found, cpu_gates(found)

    return {"embedded": embedded}


def gpu(device: torch.device, scratch: Path, *, small: bool, say: Say) -> dict[str, Part]:
    """The embedded checkpoint, Stable Diffusion 1.5 and SDXL on one card: each a part that is not repeated."""
    effort = replace(SMALL, compile_seconds=None) if small else GPU

    def embedded() -> tuple[Figures, list[Gate]]:
        study = Study(subjects.embedded(device, scratch, small=small), effort, say)
        found = _people(study, grids=False)
        found["memory"] = measure.peak_memory(device)
        rate = found["saturation"]["1"]
        return found, [*_equal(found), at_least("embedded: images/s over diffusers", rate[OURS] / rate[PLAIN], 10)]

    def sd15() -> tuple[Figures, list[Gate]]:
        study = Study(subjects.sd15(device, scratch, small=small), effort, say)
        mix = replace(study.mix(1), deck=(20,) * 20, guidance=(7.5,))
        found = {"equality": figures.equality(study), **figures.speed(study)}
        found["saturation"] = {"1": study.saturation(mix, effort.saturated, (PLAIN, OURS))}
        found["compiled"] = figures.compiled_arm(study, mix, effort.saturated // 2)
        found["memory"] = measure.peak_memory(device)
        rate, other = found["saturation"]["1"], found["compiled"]["images_per_second"]
        return found, [
            *_equal(found),
            at_least("sd15 512 px, 20 steps: images/s over diffusers", rate[OURS] / rate[PLAIN], 5),
            at_least("sd15 512 px, 20 steps: images/s over compiled diffusers", other[OURS] / other[COMPILED], 2.5),
            at_least("sd15 512 px, 20 steps: images/s", rate[OURS], 12.8),
        ]

    def sdxl() -> tuple[Figures, list[Gate]]:
        study = Study(subjects.sdxl(device, scratch, small=small), effort, say)
        mix = replace(study.mix(1), deck=(30,) * 10, guidance=(5.0,))
        found = {"equality": figures.equality(study), **figures.speed(study)}
        found["saturation"] = {"1": study.saturation(mix, effort.saturated // 2, (PLAIN, OURS))}
        found["latency"] = {"1": figures.latencies(study, 1)}
        found["memory"] = measure.peak_memory(device)
        at = found["latency"]["1"]["loads_of_whole_jobs"]["0.7"]
        return found, [
            *_equal(found),
            at_least("sdxl 1024 px, 30 steps: images/s", found["saturation"]["1"][OURS], 0.95),
            at_most("sdxl at load 0.7: mean over whole jobs", _ratio(at, "mean"), 0.75),
            at_most("sdxl at load 0.7: p95 over whole jobs", _ratio(at, "p95"), 1.0),
        ]

    def switch() -> tuple[Figures, list[Gate]]:
        for name in ("sd15", "sdxl"):
            subjects.random_checkpoint(name, device, scratch, small=small)
        say("switching between sd15 and sdxl")
        found = switch_seconds(scratch, "sdxl", "sd15", device, rounds=effort.rounds)
        return found, [at_most("sdxl: seconds from main memory to the device", found["memory_seconds"], 0.35)]

    return {"embedded": embedded, "sd15": sd15, "sdxl": sdxl, "switch": switch}


def _people(study: Study, *, grids: bool) -> Figures:
    """What is asked of a checkpoint that many people use at once."""
    jobs, one, four = study.effort.saturated, study.mix(1), study.mix(4)
    found: Figures = {"equality": figures.equality(study), **figures.speed(study)}
    found["saturation"] = {
        "1": study.saturation(one, jobs, figures.RIVALS) | study.saturation(one, jobs // 2, figures.OTHERS)
    }
    found["latency"] = {"1": figures.latencies(study, 1)}
    if grids:
        found["saturation"]["4"] = study.saturation(four, jobs // 4, figures.RIVALS)
        found["latency"]["4"] = figures.latencies(study, 4)
    found["checked"] = figures.checked(study)
    found["flood"] = figures.flood(study)
    return found


def cpu_gates(found: Figures) -> list[Gate]:
    """Loads are shares of what a queue of whole jobs does: on our steps, quicker than diffusers', a load that fills
    diffusers leaves it idle, and there is nothing to compare."""
    one, four = (found["saturation"][images] for images in ("1", "4"))
    at = found["latency"]["1"]["loads_of_whole_jobs"]
    grids = found["latency"]["4"]["loads_of_whole_jobs"]["0.7"]
    short = [grids[arm]["by_steps"]["4"]["p95"] for arm in (OURS, WHOLE)]
    off = found["checked"]["simulated_mean_is_off_by"]
    return [
        *_equal(found),
        at_most("a grid of four: time over diffusers", found["grid_ratio"], 0.8),
        at_least("single pictures: images/s over diffusers", one[OURS] / one[PLAIN], 1.2),
        at_most("single pictures, load 0.7: mean over whole jobs", _ratio(at["0.7"], "mean"), 0.75),
        at_most("single pictures, load 0.7: p95 over whole jobs", _ratio(at["0.7"], "p95"), 0.85),
        at_most("single pictures, load 0.95: mean over whole jobs", _ratio(at["0.95"], "mean"), 0.4),
        at_most("single pictures, load 0.95: p95 over whole jobs", _ratio(at["0.95"], "p95"), 0.5),
        at_least("grids: images/s over diffusers", four[OURS] / four[PLAIN], 0.97),
        at_most("grids, load 0.7: mean over whole jobs", _ratio(grids, "mean"), 0.8),
        at_most("grids, load 0.7: p95 over whole jobs", _ratio(grids, "p95"), 1.0),
        at_most("grids, load 0.7: p95 of 4 steps over whole jobs", short[0] / short[1], 0.2),
        at_most("flood: p95 of the others over their p95 without it", found["flood"]["others_p95_ratio"], 1.5),
        at_most("steps until a newcomer joins, p95", found["checked"]["real"][OURS]["join_steps"]["p95"], 1),
        at_most("previews: share of the time", found["preview_share"], 0.03),
        at_most(f"simulation: mean of {WHOLE} off by", off[WHOLE], 0.15),
        at_most(f"simulation: mean of {OURS} off by", off[OURS], 0.15),
    ]


def _equal(found: Figures) -> list[Gate]:
    return [
        at_most(f"pictures in {dtype}: relative error against diffusers", one["relative_error"], one["tolerance"])
        for dtype, one in found["equality"].items()
    ]


def _ratio(arms: dict[str, Any], what: str) -> float:
    return float(arms[OURS]["latency"][what] / arms[WHOLE]["latency"][what])


def _resumed(file: Path, part: Part, conditions: Figures, say: Say) -> tuple[Figures, list[Gate]]:
    """A part that an earlier, interrupted run finished under the same conditions is read, not measured again."""
    if file.is_file():
        kept = json.loads(file.read_text())
        if kept["conditions"] == conditions:
            say(f"{file} was measured before")
            return kept["figures"], [Gate(**gate) for gate in kept["gates"]]
    found, gates = part()
    content = {"conditions": conditions, "figures": found, "gates": [gate.to_json() for gate in gates]}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=2) + "\n")
    return found, gates
