"""What happens to a network's answer before the sampler sees it: guidance by the prompt, limits of the picture.

Tensors are [n, C, h, w]; every function treats each of the n pictures alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Guidance:
    """How far to follow the prompt: `scale` 1 needs no unconditional half.

    `rescale` is the share of the overexposure to take back (Lin 2023, §3.4). Guidance acts from share `start` up to
    share `stop` of the steps only (Kynkäänniemi 2024, counted in steps as diffusers' guiders do); the others save
    the unconditional half.
    """

    scale: float
    rescale: float = 0.0
    start: float = 0.0
    stop: float = 1.0

    def acts_at(self, step: int, steps: int) -> bool:
        return self.scale != 1.0 and int(self.start * steps) <= step < int(self.stop * steps)

    def __call__(self, conditional: Tensor, unconditional: Tensor) -> Tensor:
        guided = classifier_free(conditional, unconditional, self.scale)
        return rescale(guided, conditional, self.rescale) if self.rescale else guided


def classifier_free(conditional: Tensor, unconditional: Tensor, scale: float) -> Tensor:
    """Away from the unconditional answer (Ho 2022, eq. 6; `scale` is their w + 1)."""
    return unconditional + scale * (conditional - unconditional)


def rescale(guided: Tensor, conditional: Tensor, share: float) -> Tensor:
    """Take back this share of what guidance added to each picture's standard deviation (Lin 2023, eq. 15-16)."""
    dims = tuple(range(1, guided.ndim))
    ratio = conditional.std(dims, keepdim=True) / guided.std(dims, keepdim=True)
    return guided * (share * ratio + 1 - share)


def static_threshold(denoised: Tensor) -> Tensor:
    """Keep a picture that is made of pixels in -1..1."""
    return denoised.clamp(-1, 1)


def dynamic_threshold(denoised: Tensor, percentile: float = 0.995, highest: float = float("inf")) -> Tensor:
    """Keep a picture in -1..1 by scaling it down where guidance drove many pixels out (Saharia 2022, "Imagen", §2.3).

    `highest` bounds the value that becomes 1; 1 makes it a static threshold.
    """
    magnitudes = denoised.float().abs().flatten(1)
    bound = torch.quantile(magnitudes, percentile, dim=1).clamp(1, highest).to(denoised.dtype)
    bound = bound.view(-1, *[1] * (denoised.ndim - 1))
    return denoised.clamp(-bound, bound) / bound
