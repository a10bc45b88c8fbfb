"""Several pictures side by side on one sheet."""

from __future__ import annotations

import math

from PIL import Image

from t2i.imaging.encode import encode_webp

PREVIEW_SIDE = 128
"""Pixels of one picture's side on a preview sheet."""


def make_sheet(images: list[Image.Image], side: int | None = None) -> Image.Image:
    """A grid as square as it gets; `side` scales every picture to that many pixels. Transparent where pictures are."""
    columns = math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    width, height = (side, side) if side else images[0].size
    sheet = Image.new("RGBA", (columns * width, rows * height))
    for index, image in enumerate(images):
        sheet.paste(
            image.resize((width, height), Image.Resampling.BICUBIC),
            (index % columns * width, index // columns * height),
        )
    return sheet


def encode_sheet(images: list[Image.Image]) -> bytes:
    """A WebP preview sheet."""
    return encode_webp(make_sheet(images, PREVIEW_SIDE))
