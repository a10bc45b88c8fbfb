"""What each network learns: from one batch of pictures and captions to one loss.

Both follow a rectified flow (Liu 2022): x_t = (1 - t) x0 + t noise. The network predicts x0; the loss is that of the
velocity, which weighs the x0 error by 1/t^2, clamped where t is small (the recipe of Li 2025, "Back to Basics").
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Protocol

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from torch.nn import functional

from t2i.families.model import TextStates
from t2i.families.networks import CHANNELS, BaseDenoiser, Upsampler

NUM_TIMESTEPS = 1000
MIN_T = 0.3
"""Below this t the loss is not weighted up any further."""


class Task(Protocol):
    collages: bool
    """Whether it draws after collages."""

    def condition_channels(self, patch: int) -> int:
        """Channels that the network sees beside the noisy picture, whose patches are of this side."""

    def loss(
        self, unet: UNet2DConditionModel, pixels: Tensor, collage: Tensor, text: TextStates, generator: torch.Generator
    ) -> Tensor:
        """Scalar loss for clean `pixels` and their collages, [n, 4, h, w] in -1..1."""

    def sample(  # noqa: PLR0917
        self,
        unet: UNet2DConditionModel,
        pixels: Tensor,
        collage: Tensor,
        text: TextStates,
        empty: TextStates,
        generator: torch.Generator,
    ) -> Tensor:
        """Pictures [n, 4, h, w] drawn for `text`, to be looked at while training."""


class BaseTask:
    """Text to a small picture, after a collage where there is one."""

    collages = True

    def condition_channels(self, patch: int) -> int:
        return CHANNELS * patch**2

    def loss(
        self, unet: UNet2DConditionModel, pixels: Tensor, collage: Tensor, text: TextStates, generator: torch.Generator
    ) -> Tensor:
        noisy, t = add_noise(pixels, 0.5, generator)
        return velocity_loss(BaseDenoiser(unet)(noisy, to_timesteps(t), text, collage), pixels, t)

    def sample(  # noqa: PLR0917
        self,
        unet: UNet2DConditionModel,
        pixels: Tensor,
        collage: Tensor,
        text: TextStates,
        empty: TextStates,
        generator: torch.Generator,
    ) -> Tensor:
        denoiser = BaseDenoiser(unet)

        def guided(latents: Tensor, timesteps: Tensor) -> Tensor:
            conditional = denoiser(latents, timesteps, text, collage)
            unconditional = denoiser(latents, timesteps, empty, collage)
            return unconditional + 2.0 * (conditional - unconditional)

        return euler(guided, torch.randn(pixels.shape, generator=generator, device=pixels.device), steps=12)


class UpsamplerTask:
    """A small picture and text to a large one. The small picture is blurred and noised at random, as drawn ones are."""

    collages = False

    def condition_channels(self, patch: int) -> int:
        return CHANNELS

    def loss(
        self, unet: UNet2DConditionModel, pixels: Tensor, collage: Tensor, text: TextStates, generator: torch.Generator
    ) -> Tensor:
        noisy, t = add_noise(pixels, 0.0, generator)
        return velocity_loss(Upsampler(unet)(noisy, to_timesteps(t), text, shrink(pixels, generator)), pixels, t)

    def sample(  # noqa: PLR0917
        self,
        unet: UNet2DConditionModel,
        pixels: Tensor,
        collage: Tensor,
        text: TextStates,
        empty: TextStates,
        generator: torch.Generator,
    ) -> Tensor:
        upsampler, small = Upsampler(unet), shrink(pixels, generator)
        noise = torch.randn(pixels.shape, generator=generator, device=pixels.device)
        return euler(lambda latents, timesteps: upsampler(latents, timesteps, text, small), noise, steps=4)


TASKS: dict[str, Task] = {"base": BaseTask(), "upsampler": UpsamplerTask()}


def add_noise(pixels: Tensor, shift: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Noisy pixels and their t [n]; t is logit-normal around `shift` (Esser 2024, §3.1)."""
    t = torch.sigmoid(torch.randn(len(pixels), generator=generator, device=pixels.device) + shift).clamp(0.002, 0.998)
    noise = torch.randn(pixels.shape, generator=generator, device=pixels.device)
    weight = t[:, None, None, None]
    return (1 - weight) * pixels + weight * noise, t


def to_timesteps(t: Tensor) -> Tensor:
    """t in 0..1 as the network counts it: timestep k of the schedule has t = (k + 1) / NUM_TIMESTEPS."""
    return t * NUM_TIMESTEPS - 1


def velocity_loss(predicted: Tensor, pixels: Tensor, t: Tensor) -> Tensor:
    weight = 1 / t.clamp(min=MIN_T) ** 2
    return (weight * (predicted - pixels).square().mean((1, 2, 3))).mean()


def shrink(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """A quarter of the size by area, then a random mix with a blurred copy, and a little noise."""
    small = functional.avg_pool2d(pixels, 4)
    blurred = functional.avg_pool2d(functional.pad(small, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    mix = torch.rand(len(small), 1, 1, 1, generator=generator, device=small.device) * 0.8
    sigma = torch.rand(len(small), 1, 1, 1, generator=generator, device=small.device) * 0.06
    noise = torch.randn(small.shape, generator=generator, device=small.device)
    return small + mix * (blurred - small) + sigma * noise


@torch.inference_mode()
def euler(predict: Callable[[Tensor, Tensor], Tensor], noise: Tensor, steps: int) -> Tensor:
    """The plainest sampler, for pictures to look at while training; real sampling lives in t2i.diffusion."""
    latents = noise
    times = torch.linspace(1, 0, steps + 1, device=noise.device)
    for now, after in pairwise(times):
        clean = predict(latents, to_timesteps(now.expand(len(latents)))).clamp(-1, 1)
        latents = clean + after / now * (latents - clean)
    return latents
