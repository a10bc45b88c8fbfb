"""Pictures that tile: convolutions that see the left edge beside the right one and the top below the bottom."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from diffusers.models.downsampling import Downsample2D
from torch import nn


@contextmanager
def circular(module: nn.Module, on: bool) -> Iterator[None]:
    """Every padded Conv2d of `module` wraps around while this lasts; nothing is touched when `on` is false.

    Attention sees no edges, so a network that is told no positions is then equivariant to rolling its input by its
    total stride. The module itself is switched: no other thread may use it meanwhile.
    """
    if not on:
        yield
        return
    convolutions = [part for part in module.modules() if isinstance(part, nn.Conv2d) and any(_padding(part))]
    # An autoencoder's encoder pads the right and the bottom by one before a convolution that does not pad.
    lopsided = [part for part in module.modules() if isinstance(part, Downsample2D) and part.padding == 0]
    try:
        for convolution in convolutions:
            convolution.padding_mode = "circular"
        for downsampler in lopsided:
            _pad_within(downsampler, (0, 1, 0, 1), "circular", 1)
        yield
    finally:
        for convolution in convolutions:
            convolution.padding_mode = "zeros"
        for downsampler in lopsided:
            _pad_within(downsampler, (0, 0, 0, 0), "zeros", 0)


def _padding(convolution: nn.Conv2d) -> list[int]:
    """Left, right, top, bottom, as the convolution itself pads with."""
    return convolution._reversed_padding_repeated_twice


def _pad_within(downsampler: Downsample2D, padding: tuple[int, int, int, int], mode: str, own: int) -> None:
    """Let the convolution pad; a downsampler whose `padding` is not 0 leaves that to it."""
    downsampler.padding = own
    downsampler.conv.padding_mode = mode
    downsampler.conv._reversed_padding_repeated_twice = list(padding)
