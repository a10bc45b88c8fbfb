"""What the engine asks of a model, whatever its family."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor, nn

from t2i.api import CheckpointInfo, GenerationRequest, Lora
from t2i.checkpoints.lora import Loras
from t2i.diffusion.guidance import Guidance
from t2i.diffusion.plan import Plan


@dataclass(frozen=True, slots=True)
class TextStates:
    """Encoded prompts, a row each: `tokens` [n, length, dim], of which `mask` [n, length] bool says what counts (None:
    everything), and `pooled` [n, dim], a vector for the whole."""

    tokens: Tensor
    mask: Tensor | None
    pooled: Tensor | None

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, rows: slice | Tensor) -> TextStates:
        return self._each(lambda tensor: tensor[rows])

    def to(self, device: torch.device, dtype: torch.dtype | None = None) -> TextStates:
        """Moved; `dtype` is for the states, the mask stays bool."""
        mask = None if self.mask is None else self.mask.to(device)
        pooled = None if self.pooled is None else self.pooled.to(device, dtype)
        return TextStates(self.tokens.to(device, dtype), mask, pooled)

    def like_zeros(self) -> TextStates:
        return self._each(torch.zeros_like)

    def _each(self, change: Callable[[Tensor], Tensor]) -> TextStates:
        mask = None if self.mask is None else change(self.mask)
        return TextStates(change(self.tokens), mask, None if self.pooled is None else change(self.pooled))

    @staticmethod
    def concatenate(parts: list[TextStates]) -> TextStates:
        masks = [part.mask for part in parts if part.mask is not None]
        pooled = [part.pooled for part in parts if part.pooled is not None]
        return TextStates(
            torch.cat([part.tokens for part in parts]),
            torch.cat(masks) if masks else None,
            torch.cat(pooled) if pooled else None,
        )


@dataclass(frozen=True, slots=True)
class Stage:
    """One network's share of a request: `shape` is (C, h, w) of its latents.

    `threshold` keeps the denoised picture where latents can be, the same for every request of a stage; None where
    latents know no bounds. `embedded_guidance` is told to a network that was distilled with guidance as an input.
    `learned_variance`: the network's answer has 2 C channels, the second half interpolating the noise of a step.
    """

    name: str
    plan: Plan
    shape: tuple[int, int, int]
    guidance: Guidance
    threshold: Callable[[Tensor], Tensor] | None = None
    embedded_guidance: float = 0.0
    learned_variance: bool = False
    scale: int = 1
    """Pixels of the picture along one side of a latent."""


@dataclass(frozen=True, slots=True)
class Rows:
    """The input of one forward, a row for every picture and half of guidance.

    `latents` [n, C, h, w] float32, `timesteps` [n] float32, `guidance` [n] the embedded guidance, `condition`
    [n, c, H, W] what the network sees beside the latents, `tile` and `loras` the same for all of them.
    """

    stage: str
    latents: Tensor
    timesteps: Tensor
    text: TextStates
    guidance: Tensor
    condition: Tensor | None = None
    tile: bool = False
    loras: tuple[Lora, ...] = ()

    def __len__(self) -> int:
        return len(self.latents)

    def __getitem__(self, part: slice) -> Rows:
        return replace(
            self,
            latents=self.latents[part],
            timesteps=self.timesteps[part],
            text=self.text[part],
            guidance=self.guidance[part],
            condition=None if self.condition is None else self.condition[part],
        )


@dataclass(frozen=True, slots=True)
class Start:
    """The picture a request starts from, in the first stage's latent space.

    `latents` [images or 1, C, h, w]; `mask` [1, 1, h, w] is 1 where it is drawn anew; `condition` [1, c, h, w] is what
    an inpainting network sees beside its latents.
    """

    latents: Tensor
    mask: Tensor | None = None
    condition: Tensor | None = None


class Model(Protocol):
    """A loaded checkpoint whose denoiser the engine steps.

    All results are float32 on `device`, where the denoiser is; text encoder and autoencoder may live elsewhere.
    """

    info: CheckpointInfo
    device: torch.device
    dtype: torch.dtype
    """In which the denoiser computes."""
    loras: Loras

    def modules(self) -> list[nn.Module]:
        """Every network of it, for whoever counts or moves their weights."""

    def precise(self) -> AbstractContextManager[None]:
        """The denoiser computes in float32 inside."""

    def encode(self, request: GenerationRequest) -> tuple[TextStates, TextStates]:
        """One row each for the prompt and for the negative prompt, of equal length. Raises InvalidRequest."""

    def stages(self, request: GenerationRequest) -> list[Stage]:
        """What is drawn, in order. Raises InvalidRequest for what this checkpoint cannot do."""

    def start(self, picture: Image.Image, mask: Image.Image | None, stage: Stage, *, tile: bool = False) -> Start:
        """A picture of the request's size, RGB or RGBA, and a mask of the same size, mode L, as latents."""

    def begin(self, request: GenerationRequest, latents: Tensor | None, seeds: list[int]) -> Start | None:
        """What a request without a picture starts from, given its own latents [images or 1, C, h, w] if it has any;
        None for noise alone."""

    def predict(self, rows: Rows) -> Tensor:
        """The network's output [n, C, h, w], or [n, 2 C, h, w] with a learned variance."""

    def decode(self, latents: Tensor, *, tile: bool = False) -> list[Image.Image]:
        """Pictures of clean latents [n, C, h, w]."""

    def preview(self, latents: Tensor) -> list[Image.Image]:
        """Small, cheap pictures of clean latents."""
