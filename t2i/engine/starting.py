"""The picture a request starts from, from its bytes to latents of the first stage."""

from __future__ import annotations

import math
from dataclasses import dataclass

import msgspec
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from t2i.api import CheckpointInfo, GenerationRequest, InvalidRequest
from t2i.families.model import Model, Stage, Start
from t2i.imaging.canvas import fit
from t2i.imaging.decode import decode_mask, decode_picture

_LATENTS = "latents"
_SIDE_STEP = 64
"""Pixels; pictures of any shape are drawn with sides of a multiple of this unless a size was asked for."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A starting picture, RGB or RGBA, and the mask of what is drawn anew, of the same size and mode L."""

    image: Image.Image
    mask: Image.Image | None

    def fitted(self, width: int, height: int) -> tuple[Image.Image, Image.Image | None]:
        """Both, cut and scaled to this size."""
        return fit(self.image, width, height), None if self.mask is None else fit(self.mask, width, height)


def open_picture(request: GenerationRequest) -> Picture | None:
    """The request's picture and mask. Raises InvalidRequest for files that are no pictures."""
    if request.image is None:
        return None
    image = decode_picture(request.image)
    return Picture(image, None if request.mask is None else decode_mask(request.mask, image.size))


def sized_like(request: GenerationRequest, picture: Picture | None, info: CheckpointInfo) -> GenerationRequest:
    """Without a size of its own, a request takes the picture's shape, at as many pixels as the checkpoint likes."""
    if picture is None or request.width or request.height or "any_size" not in info.features:
        return request
    scale = info.default_size / math.sqrt(picture.image.width * picture.image.height)
    width, height = (max(1, round(side * scale / _SIDE_STEP)) * _SIDE_STEP for side in picture.image.size)
    return msgspec.structs.replace(request, width=width, height=height)


def start(
    model: Model, request: GenerationRequest, picture: Picture | None, stages: list[Stage], seeds: list[int]
) -> Start | None:
    """What the first stage starts from, or None for pure noise. Raises InvalidRequest."""
    if picture is not None:
        last = stages[-1]
        fitted = picture.fitted(last.shape[2] * last.scale, last.shape[1] * last.scale)
        return model.start(*fitted, stages[0], tile=request.tile)
    latents = None
    if request.latents is not None:
        latents = unpack_latents(request, stages[0].shape, model.info.name).to(model.device)
    return model.begin(request, latents, seeds)


def pack_latents(latents: Tensor) -> bytes:
    """Latents [C, h, w] as the bytes of a safetensors file in half precision."""
    return save({_LATENTS: latents.to(torch.float16).contiguous().cpu()})


def unpack_latents(request: GenerationRequest, shape: tuple[int, ...], checkpoint: str) -> Tensor:
    """The request's starting latents [images or 1, C, h, w], float32. Raises InvalidRequest."""
    try:
        loaded = [load(blob)[_LATENTS] for blob in request.latents or ()]
    except (SafetensorError, KeyError) as error:
        raise InvalidRequest("latents", "The starting picture's latents cannot be read.") from error
    if any(latents.shape != shape for latents in loaded):
        raise InvalidRequest("latents", f"The starting picture was drawn by another kind of model than {checkpoint}.")
    return torch.stack(loaded).float()
