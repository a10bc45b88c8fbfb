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

from benchmarks import figures, plots, report, subjects
from benchmarks.arms import COMPILED, OURS, PLAIN, WHOLE
from benchmarks.figures import Figures
from benchmarks.gates import Gate, at_least, at_most
from benchmarks.study import Effort, Study
from t2i.checkpoints.registry import pick_device

CPU = Effort(rounds=7, decks=2, checked=40, simulated=2000, peak_side=2048)
GPU = Effort(rounds=15, decks=2, checked=60, simulated=2000, peak_side=8192)
SMALL = Effort(rounds=1, decks=1, checked=8, simulated=60, peak_side=256)
COMPILE_SECONDS = 60.0
"""What the CPU suite spends on compiling; there it takes longer than all else."""

Say = Callable[[str], None]
Part = Callable[[], tuple[Figures, list[Gate]]]


def run(suite: str, json_file: Path | None, plots_dir: Path | None, *, small: bool, say: Say) -> int:
    """Measure, print the table, write what was asked for. 0 when every gate holds, else 1."""
    began = time.monotonic()
    device = pick_device("cpu" if suite == "cpu" else "auto")
    parts = None if json_file is None or suite == "cpu" else json_file.with_suffix(".parts")
    with tempfile.TemporaryDirectory() if parts is None else nullcontext(parts / "checkpoints") as scratch:
        measured = (cpu if suite == "cpu" else gpu)(device, Path(scratch), small=small, say=say)
        found: Figures = {}
        gates: list[Gate] = []
        for name, part in measured.items():
            found[name], kept = _resumed(name, part, parts, say)
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
        found = _people(study, effort, grids=True)
        found["compiled"] = figures.compiled_arm(study, study.mix(1), 20, 0 if small else COMPILE_SECONDS)
        found["loading"] = figures.loading(study)
        found["memory"] = figures.memory(study)
        return found, cpu_gates(found)

    return {"embedded": embedded}


def gpu(device: torch.device, scratch: Path, *, small: bool, say: Say) -> dict[str, Part]:
    """The embedded checkpoint, Stable Diffusion 1.5 and SDXL on one card: each a part that is not repeated."""
    effort = SMALL if small else GPU

    def embedded() -> tuple[Figures, list[Gate]]:
        study = Study(subjects.embedded(device, scratch, small=small), effort, say)
        found = _people(study, effort, grids=False)
        found["memory"] = figures.memory(study)
        rate = found["saturation"]["1"]
        return found, [_equal(found), at_least("embedded: images/s over diffusers", rate[OURS] / rate[PLAIN], 10)]

    def sd15() -> tuple[Figures, list[Gate]]:
        study = Study(subjects.sd15(device, scratch, small=small), effort, say)
        mix = replace(study.mix(1), deck=(20,) * 20, guidance=(7.5,))
        found = {"equality": figures.equality(study), **figures.speed(study)}
        found["saturation"] = {"1": figures.saturation(study, mix, 20 * effort.decks, (PLAIN, OURS))}
        found["compiled"] = figures.compiled_arm(study, mix, 20, None)
        found["memory"] = figures.memory(study)
        rate, other = found["saturation"]["1"], found["compiled"]["images_per_second"]
        return found, [
            _equal(found),
            at_least("sd15 512 px, 20 steps: images/s over diffusers", rate[OURS] / rate[PLAIN], 5),
            at_least("sd15 512 px, 20 steps: images/s over compiled diffusers", other[OURS] / other[COMPILED], 2.5),
            at_least("sd15 512 px, 20 steps: images/s", rate[OURS], 12.8),
        ]

    def sdxl() -> tuple[Figures, list[Gate]]:
        study = Study(subjects.sdxl(device, scratch, small=small), effort, say)
        mix = replace(study.mix(1), deck=(30,) * 10, guidance=(5.0,))
        found = {"equality": figures.equality(study), **figures.speed(study)}
        found["saturation"] = {"1": figures.saturation(study, mix, 10 * effort.decks, (PLAIN, OURS))}
        found["latency"] = {"1": figures.latencies(study, 1)}
        found["loading"] = figures.loading(study)
        found["memory"] = figures.memory(study)
        at = found["latency"]["1"]["loads"]["0.7"]
        return found, [
            _equal(found),
            at_least("sdxl 1024 px, 30 steps: images/s", found["saturation"]["1"][OURS], 0.95),
            at_most("sdxl at load 0.7: mean over whole jobs", _ratio(at, "mean"), 0.75),
            at_most("sdxl at load 0.7: p95 over whole jobs", _ratio(at, "p95"), 1.0),
        ]

    return {"embedded": embedded, "sd15": sd15, "sdxl": sdxl}


def _people(study: Study, effort: Effort, *, grids: bool) -> Figures:
    """What is asked of a checkpoint that many people use at once."""
    found: Figures = {"equality": figures.equality(study), **figures.speed(study)}
    found["saturation"] = {"1": figures.saturation(study, study.mix(1), 20 * effort.decks, figures.ALL_ARMS)}
    found["latency"] = {"1": figures.latencies(study, 1)}
    if grids:
        found["saturation"]["4"] = figures.saturation(study, study.mix(4), 10 * effort.decks, figures.HARD_ARMS)
        found["latency"]["4"] = figures.latencies(study, 4)
    found["checked"] = figures.checked(study)
    found["flood"] = figures.flood(study)
    return found


def cpu_gates(found: Figures) -> list[Gate]:
    one, four = (found["saturation"][images] for images in ("1", "4"))
    at = found["latency"]["1"]["loads"]
    grids = found["latency"]["4"]["loads"]["0.7"]
    short = [grids[arm]["by_steps"]["4"]["p95"] for arm in (OURS, WHOLE)]
    off = found["checked"]["simulated_mean_is_off_by"]
    return [
        _equal(found),
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


def _equal(found: Figures) -> Gate:
    equality = found["equality"]
    return at_most("pictures: relative error against diffusers", equality["relative_error"], equality["tolerance"])


def _ratio(arms: dict[str, Any], what: str) -> float:
    return float(arms[OURS]["latency"][what] / arms[WHOLE]["latency"][what])


def _resumed(name: str, part: Part, parts: Path | None, say: Say) -> tuple[Figures, list[Gate]]:
    """A part that an earlier, interrupted run finished is read, not measured again."""
    if parts is None:
        return part()
    file = parts / f"{name}.json"
    if file.is_file():
        say(f"{name} was measured before: {file}")
        kept = json.loads(file.read_text())
        return kept["figures"], [Gate(**gate) for gate in kept["gates"]]
    parts.mkdir(parents=True, exist_ok=True)
    found, gates = part()
    content = json.dumps({"figures": found, "gates": [gate.to_json() for gate in gates]}, indent=2)
    file.write_text(content + "\n")
    return found, gates
