"""Pictures cut, extended and put together, RGB or RGBA; what is transparent leaves no dark fringes."""

from __future__ import annotations

import math

from PIL import Image, ImageChops, ImageFilter

OVERLAP = 16
"""Pixels of the old picture that are drawn anew beside the new ground, so that one grows out of the other."""
FEATHER = 15
"""Pixels over which a drawing fades in, from the mask's edge inwards; divides 255."""


def fit(picture: Image.Image, width: int, height: int) -> Image.Image:
    """The largest middle part of this shape, scaled to this size. Any mode."""
    scale = max(width / picture.width, height / picture.height)
    across, down = width / scale, height / scale
    left, top = (picture.width - across) / 2, (picture.height - down) / 2
    # Pillow itself premultiplies RGBA when it resizes.
    return picture.resize((width, height), Image.Resampling.LANCZOS, box=(left, top, left + across, top + down))


def extend(
    picture: Image.Image, left: int, top: int, right: int, bottom: int, *, multiple: int = 1
) -> tuple[Image.Image, Image.Image]:
    """The picture with so many more pixels on each side, and the mask of what is to be drawn there.

    The new ground holds the blurred colours of the nearest edge. The mask, mode L, is white on it and OVERLAP pixels
    into the picture. Where a side is not a multiple of `multiple` pixels, more is added, on the right and below unless
    only the left or the top grows.
    """
    left, right = _rounded(picture.width, left, right, multiple)
    top, bottom = _rounded(picture.height, top, bottom, multiple)
    width, height = picture.size
    size = left + width + right, top + height + bottom
    extended = _edges(picture, left, top, size).filter(ImageFilter.GaussianBlur(max(left, top, right, bottom) / 4))
    extended = extended.convert(picture.mode)
    extended.paste(picture, (left, top))
    mask = Image.new("L", size, "white")
    across, down = min(OVERLAP, width // 4), min(OVERLAP, height // 4)
    kept = (
        left + across * bool(left),
        top + down * bool(top),
        left + width - across * bool(right),
        top + height - down * bool(bottom),
    )
    mask.paste("black", kept)
    return extended, mask


def zoom_out(picture: Image.Image, factor: float) -> tuple[Image.Image, Image.Image]:
    """The picture `factor` times smaller in the middle of its old size, and the mask of what is drawn around it."""
    width, height = (max(1, round(side / factor)) for side in picture.size)
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    small = picture.resize((width, height), Image.Resampling.LANCZOS)
    return extend(small, left, top, picture.width - width - left, picture.height - height - top)


def make_square(picture: Image.Image, *, multiple: int = 1) -> tuple[Image.Image, Image.Image]:
    """The picture with both its shorter sides extended alike, and the mask of what is to be drawn there."""
    side = math.ceil(max(picture.size) / multiple) * multiple
    across, down = side - picture.width, side - picture.height
    return extend(picture, across // 2, down // 2, across - across // 2, down - down // 2)


def paste(drawn: Image.Image, original: Image.Image, mask: Image.Image) -> Image.Image:
    """`drawn` where the mask is white, and the very pixels of `original` where it is black; all of one size.

    The mask, mode L, divides at half grey as that of the networks does. `drawn` fades in over FEATHER pixels within it,
    so that nothing outside changes. RGBA if either picture is.
    """
    mode = "RGBA" if "RGBA" in (drawn.mode, original.mode) else "RGB"
    drawn, original = drawn.convert(mode), original.convert(mode)
    share = _depth(mask.point(lambda value: 255 if value >= 128 else 0))
    if mode == "RGB":
        return Image.composite(drawn, original, share)
    mixed = Image.composite(drawn.convert("RGBa"), original.convert("RGBa"), share).convert("RGBA")
    # Premultiplying rounds, and forgets the colour of what is transparent.
    mixed.paste(original, mask=share.point(lambda value: 255 if value == 0 else 0))
    mixed.paste(drawn, mask=share.point(lambda value: 255 if value == 255 else 0))
    return mixed


def _rounded(length: int, before: int, after: int, multiple: int) -> tuple[int, int]:
    more = -(before + length + after) % multiple
    return (before + more, after) if before and not after else (before, after + more)


def _edges(picture: Image.Image, left: int, top: int, size: tuple[int, int]) -> Image.Image:
    """A canvas of `size` with the picture at (left, top), its outermost pixels drawn out to the edges. RGBA becomes
    premultiplied."""
    if picture.mode == "RGBA":
        picture = picture.convert("RGBa")
    canvas = Image.new(picture.mode, size)
    (width, height), (right, bottom) = picture.size, (left + picture.width, top + picture.height)
    columns = ((0, 1, 0, left), (0, width, left, right), (width - 1, width, right, size[0]))
    rows = ((0, 1, 0, top), (0, height, top, bottom), (height - 1, height, bottom, size[1]))
    for x0, x1, start, end in columns:
        for y0, y1, upper, lower in rows:
            if end > start and lower > upper:
                part = picture.crop((x0, y0, x1, y1)).resize((end - start, lower - upper), Image.Resampling.NEAREST)
                canvas.paste(part, (start, upper))
    return canvas


def _depth(mask: Image.Image) -> Image.Image:
    """How far inside the white of a black and white mask each pixel lies: 0 outside, 255 from FEATHER pixels on."""
    depth = Image.new("L", mask.size)
    share = Image.new("L", mask.size, 255 // FEATHER)
    for _ in range(FEATHER):
        depth = ImageChops.add(depth, ImageChops.multiply(mask, share))
        mask = mask.filter(ImageFilter.MinFilter(3))
    return depth
