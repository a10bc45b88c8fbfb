"""What the engine asks of a model, whatever its family."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor

from t2i.api import CheckpointInfo, GenerationRequest
from t2i.diffusion.guidance import Guidance, static_threshold
from t2i.diffusion.plan import Plan
from t2i.families.text import TextStates


@dataclass(frozen=True, slots=True)
class Stage:
    """One network's share of a request: `shape` is (C, h, w) of its latents.

    `threshold` keeps the denoised picture where latents can be, the same for every request of a stage; None where
    latents know no bounds.
    """

    name: str
    plan: Plan
    shape: tuple[int, int, int]
    guidance: Guidance
    threshold: Callable[[Tensor], Tensor] | None = static_threshold


class Model(Protocol):
    """A loaded checkpoint."""

    info: CheckpointInfo
    device: torch.device

    def encode(self, prompts: list[str]) -> TextStates:
        """Text states of n prompts."""

    def stages(self, request: GenerationRequest) -> list[Stage]:
        """What is drawn, in order. Raises InvalidRequest for what this checkpoint cannot do."""

    def predict(
        self, stage: str, latents: Tensor, timesteps: Tensor, text: TextStates, previous: Tensor | None
    ) -> Tensor:
        """The network's output for latents [n, C, h, w] at timesteps [n]; `previous`: what the stage before drew."""

    def decode(self, latents: Tensor) -> list[Image.Image]:
        """Pictures of clean latents."""

    def preview(self, latents: Tensor) -> list[Image.Image]:
        """Small, cheap pictures of clean latents."""
