"""Where the parts of a model live and in which precision they compute."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Placement:
    """`dtype` is that of the denoiser and of the text encoders, `vae_dtype` that of the autoencoder.

    With `offload`, text encoders and autoencoder are on their devices only while they work, and in main memory
    otherwise, for cards that hold the denoiser alone.
    """

    denoiser: torch.device
    text: torch.device
    vae: torch.device
    dtype: torch.dtype = torch.float32
    vae_dtype: torch.dtype = torch.float32
    offload: bool = False

    @classmethod
    def on(cls, device: torch.device, dtype: torch.dtype = torch.float32) -> Placement:
        """Everything on one device."""
        return cls(device, device, device, dtype, dtype)
