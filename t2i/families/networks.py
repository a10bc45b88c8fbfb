"""The cascade's two denoisers: diffusers UNets over space-to-depth pixels, and how pixels get there and back.

A patch of p x p pixels becomes one position with p*p*4 channels, so the convolutions run on a grid p times smaller.
Both networks predict the clean picture (x-prediction) and read the prompt twice: token states by cross-attention, the
pooled sentence vector added to the time embedding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from torch.nn import functional

from t2i.families.model import TextStates

CHANNELS = 4
"""Red, green, blue and alpha; colours premultiplied by alpha, all in -1..1."""


@dataclass(frozen=True, slots=True)
class NetworkShape:
    """Channels of each level, finest first, and which of them attend to the tokens."""

    block_out_channels: list[int]
    attention: list[bool]
    patch: int


def build_network(
    shape: NetworkShape, *, resolution: int, text_dim: int, condition_channels: int = 0
) -> UNet2DConditionModel:
    """A UNet with fresh weights for `resolution` px pictures."""
    channels = CHANNELS * shape.patch**2
    down = ["CrossAttnDownBlock2D" if attend else "DownBlock2D" for attend in shape.attention]
    up = ["CrossAttnUpBlock2D" if attend else "UpBlock2D" for attend in reversed(shape.attention)]
    return UNet2DConditionModel(
        sample_size=resolution // shape.patch,
        in_channels=channels + condition_channels,
        out_channels=channels,
        block_out_channels=tuple(shape.block_out_channels),
        down_block_types=tuple(down),
        up_block_types=tuple(up),
        layers_per_block=1,
        cross_attention_dim=text_dim,
        attention_head_dim=32,
        norm_num_groups=16,
        class_embed_type="projection",
        projection_class_embeddings_input_dim=text_dim,
    )


def start_from(unet: UNet2DConditionModel, weights: Mapping[str, Tensor]) -> None:
    """Take over the weights of a network like this one, which may see fewer channels beside the picture: those it did
    not see say nothing at first, and as it draws something else now, its last layer starts from nothing. Raises
    ValueError for another kind of network."""
    weights = dict(weights)
    first = "conv_in.weight"
    grown = torch.zeros_like(unet.conv_in.weight)
    if first not in weights or weights[first].shape[1] > grown.shape[1]:
        raise ValueError("its first layer is not one of this network")
    grown[:, : weights[first].shape[1]] = weights[first]
    if weights[first].shape[1] < grown.shape[1]:
        weights |= {name: torch.zeros_like(weights[name]) for name in ("conv_out.weight", "conv_out.bias")}
    try:
        unet.load_state_dict(weights | {first: grown})
    except RuntimeError as error:
        raise ValueError("its layers are not those of this network") from error


class BaseDenoiser:
    """Predicts clean 64 px latents [n, 4, h, w] from noisy ones, text and, where the network was trained with them, a
    collage of pictures to draw after, of the latents' shape; an empty one says nothing. Then the network draws what the
    collage lacks: one layer of so few channels cannot carry two pictures through."""

    def __init__(self, unet: UNet2DConditionModel) -> None:
        self.unet = unet
        self.patch = _patch(unet)
        self.size: int = unet.config.sample_size * self.patch
        self.sees_collages: bool = unet.config.in_channels > unet.config.out_channels

    def __call__(self, latents: Tensor, timesteps: Tensor, text: TextStates, collage: Tensor | None = None) -> Tensor:
        if not self.sees_collages:
            packed = functional.pixel_unshuffle(latents, self.patch)
            return functional.pixel_shuffle(_forward(self.unet, packed, timesteps, text), self.patch)
        known = torch.full_like(latents, -1) if collage is None else collage
        packed = functional.pixel_unshuffle(torch.cat([latents, known], 1), self.patch)
        return known + functional.pixel_shuffle(_forward(self.unet, packed, timesteps, text), self.patch)


class Upsampler:
    """Predicts clean 256 px latents [n, 4, H, W] from noisy ones, the small picture [n, 4, h, w] and text.

    The network draws what an interpolation of the small picture lacks (a residual, as in Saharia 2021, "SR3", but on
    the clean picture), so that its first guess is already the interpolated picture.
    """

    def __init__(self, unet: UNet2DConditionModel) -> None:
        self.unet = unet
        self.patch = _patch(unet)
        self.size: int = unet.config.sample_size * self.patch

    def __call__(
        self, latents: Tensor, timesteps: Tensor, text: TextStates, small: Tensor, *, tile: bool = False
    ) -> Tensor:
        """`tile` lets the small picture's edges continue each other, as `circular` does it for the network's own."""
        packed = functional.pixel_unshuffle(latents, self.patch)
        resize = _wrapped if tile else functional.interpolate
        near = resize(small, packed.shape[-1], mode="bilinear", antialias=True)
        residual = _forward(self.unet, torch.cat([packed, near], 1), timesteps, text)
        return resize(small, latents.shape[-1], mode="bicubic") + functional.pixel_shuffle(residual, self.patch)


def _wrapped(small: Tensor, size: int, **options: Any) -> Tensor:
    """Interpolation of [n, C, s, s] to [n, C, size, size] that finds the other edge beyond each edge."""
    scale, margin = size // small.shape[-1], small.shape[-1] // 4
    padded = functional.pad(small, (margin,) * 4, mode="circular")
    large = functional.interpolate(padded, scale * padded.shape[-1], **options)
    edge = scale * margin
    return large[..., edge:-edge, edge:-edge]


def _patch(unet: UNet2DConditionModel) -> int:
    return int((unet.config.out_channels // CHANNELS) ** 0.5)


def _forward(unet: UNet2DConditionModel, packed: Tensor, timesteps: Tensor, text: TextStates) -> Tensor:
    sample: Tensor = unet(
        packed.to(text.tokens.dtype, memory_format=torch.channels_last),
        timesteps,
        encoder_hidden_states=text.tokens,
        encoder_attention_mask=text.mask,
        class_labels=text.pooled,
        return_dict=False,
    )[0]
    return sample.float()
