"""What it takes to change from one checkpoint to another, by where the other one is."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import torch

from benchmarks.subjects import latent_dtype
from t2i.api import Hardware
from t2i.engine.models import Models, main_memory


def switch_seconds(folder: Path, wanted: str, other: str, device: torch.device, *, rounds: int) -> dict[str, float]:
    """Seconds until `wanted` can step after `other` did: from disk (read before, so from the system's cache), from main
    memory, and where both are on the device. Both are names of checkpoints in `folder`, on a device that has room for
    one of them, until the last."""
    models = Models(
        folder,
        Hardware(device=str(device), dtype=str(latent_dtype(device)).removeprefix("torch.")),
        device_budget=1,
        memory_budget=main_memory(),
    )
    first = {name: _bring(models, name) for name in (wanted, other)}
    # The first return is slower: whoever leaves for it is copied to main memory, which happens once.
    returns = [(_bring(models, wanted), _bring(models, other)) for _ in range(rounds + 1)][1:]
    _bring(models, wanted)
    began = time.perf_counter()
    models.get(wanted)
    return {
        "disk_seconds": round(first[wanted], 4),
        "memory_seconds": round(statistics.median(seconds for seconds, _ in returns), 4),
        "device_seconds": round(time.perf_counter() - began, 6),
    }


def _bring(models: Models, name: str) -> float:
    began = time.perf_counter()
    models.add(name, models.load(name).result())
    return time.perf_counter() - began
