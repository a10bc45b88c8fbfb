"""Perceptual hashes: 64 bits that stay much the same when a picture is compressed, resized or brightened.

The hash is pHash: whether each low frequency of a small grey picture is above their median. What it does not survive,
mirroring and cropping, is hashed too when a picture is removed (`variants`).
"""

from __future__ import annotations

import io
from collections.abc import Collection
from functools import cache
from typing import TYPE_CHECKING

from PIL import Image, ImageOps

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NEAR = 8
"""Bits in which two hashes differ at most when they count as of the same picture; docs/moderation.md says why."""
CROP = 0.05
"""Of a side, cut off where a removed picture is hashed cropped."""

_SIDE, _KEPT = 32, 8


def phash(picture: bytes) -> str:
    """The hash of an encoded picture, as 16 hexadecimal digits. Raises OSError for what is no picture."""
    return _hash(_grey(picture))


def variants(picture: bytes) -> list[str]:
    """Hashes of a picture, its mirror image, and both of them cropped to each corner and to the middle."""
    upright = _grey(picture)
    found = [_hash(crop) for image in (upright, ImageOps.mirror(upright)) for crop in (image, *_crops(image))]
    return list(dict.fromkeys(found))


def near(own: str, known: Collection[str], *, at_most: int = NEAR) -> bool:
    """Whether `own` differs from one of the known hashes in `at_most` bits."""
    import numpy as np

    others = np.array([int(other, 16) for other in known], np.uint64)
    return bool((np.bitwise_count(others ^ np.uint64(int(own, 16))) <= at_most).any())


def _grey(picture: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(picture)).convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("L")


def _crops(image: Image.Image) -> list[Image.Image]:
    width, height = image.size
    across, down = round(width * CROP), round(height * CROP)
    places = [(0, 0), (across, 0), (0, down), (across, down), (across // 2, down // 2)]
    return [image.crop((x, y, x + width - across, y + height - down)) for x, y in places]


def _hash(image: Image.Image) -> str:
    import numpy as np

    pixels = np.asarray(image.resize((_SIDE, _SIDE), Image.Resampling.LANCZOS), np.float64)
    frequencies = (_cosines() @ pixels @ _cosines().T).ravel()
    bits = frequencies > np.median(frequencies)
    return np.packbits(bits).tobytes().hex()


@cache
def _cosines() -> NDArray[np.float64]:
    """Rows of the discrete cosine transform (type II): the lowest frequencies but the mean, which is brightness."""
    import numpy as np

    rows, columns = np.arange(1, _KEPT + 1)[:, None], np.arange(_SIDE)[None, :]
    return np.asarray(np.cos(np.pi * rows * (2 * columns + 1) / (2 * _SIDE)), np.float64)
