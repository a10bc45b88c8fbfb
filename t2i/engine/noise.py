"""Every random number of a picture comes from its seed and the step, so that batching and pausing change nothing."""

from __future__ import annotations

import secrets

import torch
from torch import Tensor

from t2i.api import MAX_SEED, GenerationRequest


def image_seeds(request: GenerationRequest) -> list[int]:
    """One seed for each image: the request's, or any, and those that follow it."""
    first = secrets.randbelow(MAX_SEED + 1) if request.seed is None else request.seed
    return [(first + i) % (MAX_SEED + 1) for i in range(request.images)]


def seeded_noise(seed: int, step: int, shape: tuple[int, ...]) -> Tensor:
    """Standard normal noise of this seed and step, float32 on the CPU."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
    # Another thread that loads a model changes the default dtype meanwhile.
    return torch.randn(shape, generator=generator, dtype=torch.float32)
