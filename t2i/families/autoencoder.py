"""Pictures to latents and back: the autoencoder that latent diffusion works within (Rombach 2021, section 3.1)."""

from __future__ import annotations

import math
import os
from itertools import product
from threading import Lock

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from PIL import Image
from torch import Tensor, nn

from t2i.api import EngineError
from t2i.families.circular import circular

TILE, OVERLAP = 64, 16
"""Latents on a tile's side, and how many of them it shares with its neighbour."""
MEMORY_SHARE = 4
"""A picture in one piece may take one part in so many of the device's memory; the rest is the other networks'."""
FULL_SIZE_ACTIVATIONS = 8
"""A decoder holds that many of its first block's activations for every pixel at once (7.5 measured)."""
FIT_SIDE = 128
"""Pixels of the picture that the preview is fitted on: 0.4 s of two CPU cores that do nothing else."""


class Autoencoder:
    """A loaded AutoencoderKL. Pictures are RGB, latents [n, C, h, w] float32 as the denoiser knows them: shifted and
    scaled to about unit variance.

    The network works in `dtype` on `device`; with `offload` it waits in main memory. Encoding and decoding may run in
    two threads at once: the two halves share nothing. Pictures of more than `whole_pixels` pixels, and those for which
    memory ran out, pass in overlapping tiles, which changes them slightly.
    """

    def __init__(self, vae: AutoencoderKL, device: torch.device, dtype: torch.dtype, *, offload: bool = False) -> None:
        config = vae.config
        self.factor = 2 ** (len(config.block_out_channels) - 1)
        """Pixels on a latent's side."""
        self.channels: int = config.latent_channels
        if config.latents_mean is not None:
            self._shift = torch.tensor(config.latents_mean)[:, None, None]
        else:
            self._shift = torch.tensor(config.shift_factor or 0.0)
        deviation = 1.0 if config.latents_std is None else torch.tensor(config.latents_std)[:, None, None]
        self._scale = deviation / torch.tensor(config.scaling_factor)
        self._device = device
        self.whole_pixels = _memory(device) // (
            MEMORY_SHARE * FULL_SIZE_ACTIVATIONS * config.block_out_channels[0] * dtype.itemsize
        )
        self._encoder = _Half(nn.Sequential(vae.encoder, vae.quant_conv or nn.Identity()), self.factor, 1)
        self._decoder = _Half(nn.Sequential(vae.post_quant_conv or nn.Identity(), vae.decoder), 1, self.factor)
        for half in (self._encoder, self._decoder):
            half.place(device, dtype, offload)
        self._colours = self._fit_colours()

    def modules(self) -> list[nn.Module]:
        return [self._encoder.network, self._decoder.network]

    def encode(self, picture: Image.Image, *, tile: bool = False) -> Tensor:
        """Latents [1, C, h, w] of an RGB picture whose sides are multiples of `factor`, on the autoencoder's device.

        They are the mode of the distribution the encoder describes, not a draw from it, so that a picture always has
        the same latents. `tile`: the picture continues over its edges. Raises EngineError.
        """
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None]
        return self._encode(pixels.to(self._device, torch.float32) / 127.5 - 1, tile)

    @torch.inference_mode()
    def decode(self, latents: Tensor, *, tile: bool = False) -> list[Image.Image]:
        """RGB pictures of latents [n, C, h, w]. `tile`: they continue over their edges. Raises EngineError."""
        latents = latents.to(self._device)
        latents = latents * self._scale.to(self._device) + self._shift.to(self._device)
        return _pictures(self._decoder(latents, tile, self.whole_pixels))

    @torch.inference_mode()
    def preview(self, latents: Tensor) -> list[Image.Image]:
        """RGB pictures of latents [n, C, h, w] with a pixel a latent: the linear map to colours that fits best."""
        colours = self._colours.to(latents.device)
        return _pictures(torch.einsum("nchw,cr->nrhw", latents, colours[:-1]) + colours[-1][:, None, None])

    @torch.inference_mode()
    def _encode(self, pixels: Tensor, tile: bool) -> Tensor:
        mean, _log_variance = self._encoder(pixels, tile, self.whole_pixels).chunk(2, dim=1)
        return (mean - self._shift.to(self._device)) / self._scale.to(self._device)

    def _fit_colours(self) -> Tensor:
        """Weights [C, 3] and below them a bias [1, 3], by least squares on the latents of a picture."""
        picture = _natural_picture(FIT_SIDE)
        latents = self._encode(picture.to(self._device), tile=False).cpu()
        inputs = F.pad(latents[0].flatten(1), (0, 0, 0, 1), value=1.0).T
        colours = F.avg_pool2d(picture, self.factor)[0].flatten(1).T
        # A little of the identity keeps channels that say next to nothing of colours from shouting.
        ridge = 1e-3 * len(inputs) * torch.eye(self.channels + 1)
        weights: Tensor = torch.linalg.solve(inputs.T @ inputs + ridge, inputs.T @ colours)
        return weights


def mask_to_latents(mask: Image.Image, shape: tuple[int, int, int]) -> Tensor:
    """[1, 1, h, w] float32 of a mask in mode L for latents of `shape` (C, h, w): 1 where it is drawn anew, else 0.

    As diffusers' inpainting pipelines do it, so that both draw the same: grey of 128 and above counts as white, and
    a latent takes the mask's value at its upper left pixel.
    """
    white = torch.from_numpy(np.array(mask))[None, None] >= 128
    return F.interpolate(white.float(), shape[1:], mode="nearest")


class _Half:
    """An encoder or a decoder, float32 in and out; every latent is `take` pixels of input wide, `give` of output."""

    def __init__(self, network: nn.Module, take: int, give: int) -> None:
        self.network = network.eval().requires_grad_(False)
        self._take, self._give = take, give
        self._lock = Lock()

    def place(self, device: torch.device, dtype: torch.dtype, offload: bool) -> None:
        self._device, self._dtype = device, dtype
        self._home = torch.device("cpu") if offload else device
        self.network.to(self._home, dtype).to(memory_format=torch.channels_last)

    def __call__(self, inputs: Tensor, wrap: bool, whole_pixels: int) -> Tensor:
        """Raises EngineError (code "memory" or "numerics")."""
        with self._lock:
            try:
                self.network.to(self._device)
                outputs = self._pass(inputs, wrap, whole_pixels)
                if self._dtype != torch.float32 and not torch.isfinite(outputs).all():
                    # What overflows half precision once does so again: the network stays in float32.
                    self._dtype = torch.float32
                    self.network.float()
                    outputs = self._pass(inputs, wrap, whole_pixels)
            except torch.OutOfMemoryError as error:
                raise EngineError(
                    "There is too little memory for a picture of this size; ask for a smaller one.", code="memory"
                ) from error
            finally:
                self.network.to(self._home)
        if not torch.isfinite(outputs).all():
            raise EngineError("The autoencoder's answer is not a picture; try another seed.", code="numerics")
        return outputs

    def _pass(self, inputs: Tensor, wrap: bool, whole_pixels: int) -> Tensor:
        """As many pictures at once as `whole_pixels` allows, and those that are larger in tiles."""
        pixels = math.prod(inputs.shape[2:]) * (max(self._take, self._give) // self._take) ** 2
        if pixels <= whole_pixels:
            try:
                with circular(self.network, wrap):
                    return torch.cat([self._forward(part) for part in torch.split(inputs, whole_pixels // pixels)])
            except torch.OutOfMemoryError:
                pass  # Only outside of this clause is the memory of the attempt free again.
            torch.cuda.empty_cache()
        return torch.cat([self._in_tiles(picture, wrap) for picture in torch.split(inputs, 1)])

    def _in_tiles(self, picture: Tensor, wrap: bool) -> Tensor:
        """Tiles fade into each other; with `wrap` the last also into the first, across the edge."""
        height, width = picture.shape[2] // self._take, picture.shape[3] // self._take
        window = _window(height, self._give)[:, None] * _window(width, self._give)
        window = window.to(picture.device)
        weights = picture.new_zeros(height * self._give, width * self._give)
        outputs = weights
        for top, left in product(_starts(height, wrap), _starts(width, wrap)):
            rows, columns = _span(top, height, self._take)[:, None], _span(left, width, self._take)
            answer = self._forward(picture[:, :, rows, columns])
            rows, columns = _span(top, height, self._give)[:, None], _span(left, width, self._give)
            if outputs is weights:
                outputs = answer.new_zeros(1, answer.shape[1], *weights.shape)
            outputs[:, :, rows, columns] += answer * window
            weights[rows, columns] += window
        return outputs / weights

    def _forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.network(inputs.to(self._dtype))
        return outputs.float()


def _starts(length: int, wrap: bool) -> list[int]:
    """Where along a side of `length` latents tiles begin, evenly; around the edge too with `wrap`."""
    tile = min(TILE, length)
    step = tile - min(OVERLAP, tile // 4)
    if wrap:
        count = max(2, math.ceil(length / step))
        return [round(i * length / count) for i in range(count)]
    count = 1 + math.ceil((length - tile) / step)
    return [round(i * (length - tile) / max(1, count - 1)) for i in range(count)]


def _span(start: int, length: int, size: int) -> Tensor:
    """The indices of a tile's pixels, `size` to a latent, along a side of `length` latents that closes into a ring."""
    return (torch.arange(min(TILE, length) * size) + start * size) % (length * size)


def _window(length: int, size: int) -> Tensor:
    """A tile's weights along a side: 1, falling linearly towards both ends where the neighbours overlap."""
    tile = min(TILE, length)
    depth = torch.arange(tile * size) + 0.5
    return torch.clamp(torch.minimum(depth, depth.flip(0)) / max(1, min(OVERLAP, tile // 4) * size), max=1)


def _pictures(pixels: Tensor) -> list[Image.Image]:
    """RGB pictures of [n, 3, H, W] in -1..1."""
    pixels = ((pixels / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
    return [Image.fromarray(array) for array in pixels.permute(0, 2, 3, 1).contiguous().cpu().numpy()]


def _natural_picture(side: int) -> Tensor:
    """[1, 3, side, side] in -1..1: noise whose spectrum falls as 1/f, as that of photographs does (Field 1987), its
    colours varying less than its brightness."""
    noise = torch.randn(4, side, side, generator=torch.Generator().manual_seed(0))
    frequency = torch.fft.fftfreq(side)
    distance = (frequency[:, None] ** 2 + frequency**2).sqrt().clamp(min=1 / side)
    noise = torch.fft.ifft2(torch.fft.fft2(noise) / distance).real
    noise = noise / noise.std(dim=(1, 2), keepdim=True)
    return torch.clamp(0.5 * noise[:1] + 0.25 * noise[1:], -1, 1)[None]


def _memory(device: torch.device) -> int:
    """Bytes."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
