"""What a training run is told, as a TOML file holds it."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from t2i.api import T2IError
from t2i.families.networks import NetworkShape

Precision = Literal["bf16", "fp16", "fp32"]
ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]
"""The layers that a LoRA changes unless it is told others (Hu 2021, §7.1)."""


class TrainingError(T2IError):
    """A training run cannot start or go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """What every run is told.

    A step learns from `batch_size` x `accumulate` examples on each device. `device` is auto, cpu, cuda, cuda:1 or mps.
    `workers` are processes that make examples ready while a device computes. `clip` bounds the gradient's norm.
    `gradient_checkpointing` computes activations twice instead of keeping them.
    """

    task: str
    data: str
    out: str
    resolution: int
    batch_size: int
    steps: int
    learning_rate: float = 8e-4
    warmup: int = 200
    ema_decay: float = 0.999
    caption_dropout: float = 0.1
    clip: float = 1.0
    accumulate: int = 1
    precision: Precision = "bf16"
    compile: bool = False
    gradient_checkpointing: bool = False
    device: str = "auto"
    workers: int = 0
    seed: int = 0
    sample_every: int = 500
    save_every: int = 250
    sample_prompts: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in ("resolution", "batch_size", "steps", "warmup", "accumulate", "sample_every", "save_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if self.precision not in get_args(Precision):
            raise ValueError(f"precision must be one of {', '.join(get_args(Precision))}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(RunConfig):
    """One of the cascade's networks.

    `init` is the folder of a cascade checkpoint whose weights the run starts from; without it they are random.
    `guidance` is what a distilled network has folded in.
    """

    network: NetworkShape
    init: str = ""
    group_weights: dict[str, float] = field(default_factory=dict)
    guidance: float = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraConfig(RunConfig):
    """A LoRA for `checkpoint`: a name, folder or file of the families cascade, sd and sdxl.

    `instance_prompt` is the caption of pictures that have none. `prior_data` is a folder of pictures of `prior_prompt`
    that the network shall go on drawing as before (Ruiz 2022, §3.2); what lacks of `prior_images` it draws itself.
    `min_snr` bounds the weight of examples with little noise (Hang 2023); 0 leaves them all alike.
    """

    checkpoint: str
    name: str
    rank: int = 8
    targets: list[str] = field(default_factory=lambda: list(ATTENTION))
    instance_prompt: str = ""
    flip: bool = True
    prior_data: str = ""
    prior_prompt: str = ""
    prior_images: int = 0
    prior_weight: float = 1.0
    min_snr: float = 5.0
    offload: bool = False


def read_config(path: Path) -> Config | LoraConfig:
    """The configuration in a TOML file. Raises TrainingError."""
    from t2i.training.learners import NETWORK_TASKS

    try:
        values: dict[str, Any] = tomllib.loads(path.read_text())
        if values.get("task") == "lora":
            return LoraConfig(**values)
        if (task := values.get("task")) is not None and task not in NETWORK_TASKS:
            known = ", ".join((*NETWORK_TASKS, "lora"))
            raise TrainingError(f"{path} names the task {task!r}; it must be one of {known}.")
        return Config(**{**values, "network": NetworkShape(**values["network"])})
    except (OSError, tomllib.TOMLDecodeError, KeyError, TypeError, ValueError) as error:
        raise TrainingError(f"{path} is not a training configuration: {error}.") from error
