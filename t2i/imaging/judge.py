"""Whether a picture shows anything at all."""

from __future__ import annotations

import io

from PIL import Image, ImageStat

FLAT = 1.5
"""Of 255: a channel that deviates less from its mean is of one tone to the eye."""


def is_flat(file: bytes) -> bool:
    """Whether a PNG, as it looks on grey, is of one colour all over."""
    with Image.open(io.BytesIO(file)) as picture:
        shown = Image.new("RGBA", picture.size, "grey")
        shown.alpha_composite(picture.convert("RGBA"))
    return max(ImageStat.Stat(shown.convert("RGB")).stddev) < FLAT
