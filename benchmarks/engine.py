"""What batching several people's requests is worth: the same requests one after another and stepped together.

    python -m benchmarks.engine --json out.json

Both arms run in one process on the same loaded model and alternate A B A B, so that a busy machine slows both alike;
the ratio of their best rounds is the result. The pictures of both arms are compared as a gate.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

import t2i.checkpoints
from t2i.api import GenerationRequest
from t2i.engine import runner
from t2i.families.model import Model

PEOPLE = 4
SEED = 7
TOLERANCE = 1e-4
"""Largest relative difference between a picture drawn alone and in a batch."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", default="embedded")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    began = time.monotonic()
    model = t2i.checkpoints.load(arguments.checkpoint, arguments.device)
    prompts = ("a red apple", "a cat", "a blue heart", "a rocket")
    size = model.info.sizes[0]
    requests = [
        GenerationRequest(prompt=prompt, seed=SEED + index, width=size) for index, prompt in enumerate(prompts[:PEOPLE])
    ]
    draw(model, requests[:1], alone=True)  # warm-up

    seconds: dict[str, list[float]] = {"alone": [], "together": []}
    latents: dict[str, list[torch.Tensor]] = {}
    for _ in range(arguments.rounds):
        for arm, times in seconds.items():
            elapsed, latents[arm] = timed(lambda arm=arm: draw(model, requests, alone=arm == "alone"))
            times.append(elapsed)

    best = {arm: min(times) for arm, times in seconds.items()}
    speedup = best["alone"] / best["together"]
    difference = max(
        float((one - other).norm() / one.norm())
        for one, other in zip(latents["alone"], latents["together"], strict=True)
    )
    gates = [
        {"name": "pictures differ by at most", "value": difference, "limit": TOLERANCE, "ok": difference <= TOLERANCE}
    ]
    report = {
        "device": describe_device(model.device),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "seed": SEED,
        "seconds": round(time.monotonic() - began, 1),
        "checkpoint": model.info.name,
        "requests": PEOPLE,
        "rounds": arguments.rounds,
        "images_per_second": {arm: round(PEOPLE / value, 2) for arm, value in best.items()},
        "speedup": round(speedup, 3),
        "gates": gates,
    }
    show(report, best)
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0 if all(gate["ok"] for gate in gates) else 1


def draw(model: Model, requests: list[GenerationRequest], *, alone: bool) -> list[torch.Tensor]:
    """The final latents of every request, drawn one after another or all in one batch."""
    if alone:
        return [latents for request in requests for latents in draw_together(model, [request])]
    return draw_together(model, requests)


def draw_together(model: Model, requests: list[GenerationRequest]) -> list[torch.Tensor]:
    sequences = [runner.admit(model, request, str(index)) for index, request in enumerate(requests)]
    while flying := [sequence for sequence in sequences if not sequence.finished]:
        runner.step(model, flying)
    return [sequence.latents for sequence in sequences]


def timed(work: Callable[[], list[torch.Tensor]]) -> tuple[float, list[torch.Tensor]]:
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def describe_device(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {platform.machine()}, {torch.get_num_threads()} threads"


def show(report: dict[str, object], best: dict[str, float]) -> None:
    table = Table(title=f"{PEOPLE} requests of one image, {report['device']}")
    table.add_column("arm")
    table.add_column("seconds", justify="right")
    table.add_column("images/s", justify="right")
    for arm, value in best.items():
        table.add_row(arm, f"{value:.2f}", f"{PEOPLE / value:.2f}")
    console = Console()
    console.print(table)
    console.print(f"together is {report['speedup']}x as fast as alone")


if __name__ == "__main__":
    sys.exit(main())
