"""Everything one run finds about one subject, as one JSON object."""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks import compiled, latency
from benchmarks.arms import COMPILED, EXACT, OURS, PLAIN, STATIC, WHOLE
from benchmarks.replay import Log
from benchmarks.study import CHECKED_LOAD, Study, others
from benchmarks.subjects import TOLERANCES
from benchmarks.traces import Mix

Figures = dict[str, Any]
RIVALS = (PLAIN, OURS)
OTHERS = (WHOLE, STATIC, EXACT)


def equality(study: Study) -> Figures:
    """By precision."""
    return {
        dtype: {"relative_error": error, "tolerance": TOLERANCES[dtype]} for dtype, error in study.equality().items()
    }


def speed(study: Study) -> Figures:
    """The network, the sampler and what surrounds them, without anybody waiting."""
    grid, previews = study.grid(), study.previews()
    return {
        "network": study.network(),
        "grid_seconds": _rounded(grid),
        "grid_ratio": round(grid[OURS] / grid[PLAIN], 4),
        "preview_seconds": _rounded(previews),
        "preview_share": round(previews["with"] / previews["without"] - 1, 4),
    }


def compiled_arm(study: Study, mix: Mix, jobs: int) -> Figures:
    """Arm 2, or why there is none."""
    limit = study.effort.compile_seconds
    if limit == 0:
        return {"skipped": "Not tried: on two cores it took more than a minute for the network of diffusers."}
    if limit is not None:
        study.say(f"trying for {limit:.0f} s to compile the network of diffusers")
        if not compiled.fits_into(limit, study.device):
            return {"skipped": f"Compiling the network of diffusers takes more than {limit:.0f} s here."}
    found = study.compile(mix)
    return {**found, "images_per_second": study.saturation(mix, jobs, (COMPILED, OURS))}


def latencies(study: Study, images: int) -> Figures:
    """Simulated from the steps that this run measured."""
    return {
        "capacity_jobs_per_second": {
            arm: round(study.capacity(images, arm), 4) for arm in (PLAIN, STATIC, WHOLE, OURS)
        },
        "simulated_jobs": study.effort.simulated,
        "loads": {
            str(load): {name: _with_joins(log, name) for name, log in logs.items()}
            for load, logs in study.over_load(images)
        },
        "loads_of_whole_jobs": {
            str(load): {name: _with_joins(log, name) for name, log in study.equally_busy(images, load).items()}
            for load in (0.7, 0.95)
        },
    }


def checked(study: Study) -> Figures:
    """A short trace really drawn, beside the same one simulated."""
    checks = study.checked()
    return {
        "load": CHECKED_LOAD,
        "real": {name: _with_joins(check.real, name) for name, check in checks.items()},
        "simulated": {name: _with_joins(check.simulated, name) for name, check in checks.items()},
        "device_was_slower_by": {name: round(check.slowness, 4) for name, check in checks.items()},
        "simulated_mean_is_off_by": {
            name: round(abs(latency.mean(check.simulated) / latency.mean(check.real) - 1), 4)
            for name, check in checks.items()
        },
    }


def flood(study: Study) -> Figures:
    """What a user who floods does to seven others."""
    logs = study.flood()
    light, flooded = (latency.percentile(logs[name], 95, others) for name in ("light", "flooded"))
    return {
        "others_p95_seconds": {"light": round(light, 4), "flooded": round(flooded, 4)},
        "others_p95_ratio": round(flooded / light, 4),
        "flooded": latency.summarise(logs["flooded"]),
    }


def loading(study: Study) -> Figures:
    study.say("loading from disk")
    return {"disk_seconds": round(statistics.median(study.load_seconds() for _ in range(3)), 4)}


def _with_joins(log: Log, arm: str) -> Figures:
    summary = latency.summarise(log)
    if arm == OURS:
        summary["join_steps"] = latency.join_delays(log)
    return summary


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in values.items()}
