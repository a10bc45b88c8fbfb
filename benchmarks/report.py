"""A run as one JSON object, and as tables for whoever looks at a terminal."""

from __future__ import annotations

import platform
from typing import Any

import diffusers
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.figures import Figures
from benchmarks.gates import Gate
from benchmarks.study import SEED


def compose(suite: str, device: torch.device, found: Figures, gates: list[Gate], seconds: float) -> dict[str, Any]:
    return {
        "suite": suite,
        "device": describe(device),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "diffusers": diffusers.__version__,
        },
        "seed": SEED,
        "seconds": round(seconds, 1),
        "figures": found,
        "gates": [gate.to_json() for gate in gates],
    }


def describe(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {platform.machine()}, {torch.get_num_threads()} threads"


def show(result: dict[str, Any], console: Console | None = None) -> None:
    console = console or Console()
    for name, found in result["figures"].items():
        if "saturation" in found:
            console.print(_throughput(name, found))
        for images, latency in found.get("latency", {}).items():
            console.print(_latency(name, images, latency))
    console.print(_gates(result))


def _throughput(name: str, found: Figures) -> Table:
    table = Table(title=f"{name}: images/s when everything is asked for at once")
    table.add_column("arm")
    for images in found["saturation"]:
        table.add_column(f"{images} to a job", justify="right")
    arms = dict.fromkeys(arm for rates in found["saturation"].values() for arm in rates)
    for arm in arms:
        rates = (rates.get(arm) for rates in found["saturation"].values())
        table.add_row(arm, *("" if rate is None else f"{rate:.2f}" for rate in rates))
    if reason := found.get("compiled", {}).get("skipped"):
        table.caption = reason
    return table


def _latency(name: str, images: str, latency: Figures) -> Table:
    table = Table(title=f"{name}: seconds to the picture, {images} to a job (simulated from measured steps)")
    table.add_column("load")
    table.add_column("arm")
    for column in ("mean", "p50", "p95", "p99", "4 steps p95", "50 steps p95", "first preview p50"):
        table.add_column(column, justify="right")
    own = {f"{load} of whole jobs": arms for load, arms in latency["loads_of_whole_jobs"].items()}
    for load, arms in (latency["loads"] | own).items():
        for arm, found in arms.items():
            seconds = [
                *(found["latency"][what] for what in ("mean", "p50", "p95", "p99")),
                *(found["by_steps"][steps]["p95"] for steps in ("4", "50")),
                found["first_preview"]["p50"],
            ]
            table.add_row(load, arm, *(f"{value:.2f}" for value in seconds))
        table.add_section()
    return table


def _gates(result: dict[str, Any]) -> Table:
    table = Table(title=f"{result['device']}, {result['seconds']} s")
    table.add_column("gate")
    for column in ("value", "limit", ""):
        table.add_column(column, justify="right")
    for gate in result["gates"]:
        verdict = "ok" if gate["ok"] else "[bold red]falls short[/]"
        table.add_row(gate["name"], f"{gate['value']:.4g}", f"{gate['limit']:g}", verdict)
    return table
