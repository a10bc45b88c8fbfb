"""A run's state on disk: one safetensors file, replaced as a whole, with all that resuming needs.

No generator is kept: every random choice of a step follows from the seed and the step's number.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from t2i.training.config import TrainingError

_FILE = "state.safetensors"
_LOSSES = "losses.json"


@dataclass(slots=True)
class State:
    """`model` and its moving average `ema` by parameter names, the moments of `adam` by the parameters' order.

    `examples` counts those that were seen, which is where the data goes on; `losses` has one entry a step.
    """

    step: int
    examples: int
    model: dict[str, Tensor]
    ema: dict[str, Tensor]
    adam: dict[int, dict[str, Tensor]]
    scaler: dict[str, Any] = field(default_factory=dict)
    losses: list[float] = field(default_factory=list)


def save(folder: Path, state: State, config: Mapping[str, Any]) -> None:
    """Write a state with the configuration it belongs to; a crash leaves the previous files whole."""
    tensors = {f"model.{name}": weight.contiguous() for name, weight in state.model.items()}
    tensors |= {f"ema.{name}": weight.contiguous() for name, weight in state.ema.items()}
    for index, moments in state.adam.items():
        tensors |= {f"adam.{index}.{name}": value.contiguous() for name, value in moments.items()}
    metadata = {
        "step": str(state.step),
        "examples": str(state.examples),
        "scaler": json.dumps(state.scaler),
        "config": json.dumps(config),
    }
    folder.mkdir(parents=True, exist_ok=True)
    # The losses first: a state without those of its last steps would be the worse half.
    partial = folder / f"{_LOSSES}.partial"
    partial.write_text(json.dumps([round(loss, 5) for loss in state.losses]))
    _replace(partial, folder / _LOSSES)
    partial = folder / "state.partial"
    save_file(tensors, partial, metadata)
    _replace(partial, folder / _FILE)


def load(folder: Path) -> State | None:
    """The saved state, on the CPU, or None where there is none. Raises TrainingError."""
    path = folder / _FILE
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (it is no dict)
    except (OSError, SafetensorError) as error:
        raise TrainingError(f"{path} is damaged: delete it to begin again.") from error
    step = int(metadata["step"])
    config = json.loads(metadata["config"])
    state = State(
        step,
        int(metadata.get("examples", step * config["batch_size"])),
        _below(tensors, "model."),
        _below(tensors, "ema."),
        {},
        json.loads(metadata.get("scaler", "{}")),
    )
    for key, value in _below(tensors, "adam.").items():
        index, name = key.split(".")
        state.adam.setdefault(int(index), {})[name] = value
    losses = folder / _LOSSES
    state.losses = json.loads(losses.read_text())[:step] if losses.exists() else []
    return state


def averaged(folder: Path, task: str) -> dict[str, Tensor]:
    """The averaged weights of a run. Raises TrainingError where it has saved none yet."""
    state = load(folder)
    if state is None:
        raise TrainingError(f"{folder} holds no trained network yet: run t2i train {task} first.")
    return state.ema


def in_layout_of(weights: list[torch.nn.Parameter], adam: dict[int, dict[str, Tensor]]) -> dict[int, dict[str, Tensor]]:
    """Each moment on its weight's device and with its strides: the fused optimiser walks both in memory order."""
    for index, weight in enumerate(weights):
        for name in ("exp_avg", "exp_avg_sq"):
            adam[index][name] = torch.empty_like(weight).copy_(adam[index][name])
    return adam


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _replace(partial: Path, path: Path) -> None:
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)
