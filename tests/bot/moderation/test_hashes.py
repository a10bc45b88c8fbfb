"""A removed picture is known again, and others are not taken for it."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

from bot.moderation import hashes


def drawn(seed: int) -> Image.Image:
    """Shapes that no two seeds have in common."""
    colours = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    picture = Image.fromarray(colours).resize((256, 256), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(picture)
    pen.ellipse([20 * seed % 150, 37 * seed % 120, 20 * seed % 150 + 90, 37 * seed % 120 + 100], fill="firebrick")
    pen.rectangle([61 * seed % 170, 13 * seed % 170, 61 * seed % 170 + 70, 13 * seed % 170 + 50], fill="gold")
    return picture


def encoded(picture: Image.Image, format: str = "PNG", **options: int) -> bytes:
    out = io.BytesIO()
    picture.save(out, format, **options)
    return out.getvalue()


def test_a_removed_picture_is_known_again_however_it_is_changed() -> None:
    picture = drawn(3)
    removed = hashes.variants(encoded(picture))
    assert removed[0] == hashes.phash(encoded(picture))
    assert all(len(one) == 16 and int(one, 16) >= 0 for one in removed)
    changed = {
        "compressed": encoded(picture, "JPEG", quality=30),
        "smaller": encoded(picture.resize((100, 100))),
        "larger": encoded(picture.resize((400, 400))),
        "darker": encoded(ImageEnhance.Brightness(picture).enhance(0.85)),
        "cropped": encoded(picture.crop((13, 0, 256, 243))),
        "mirrored": encoded(ImageOps.mirror(picture)),
        "mirrored and cropped": encoded(ImageOps.mirror(picture).crop((6, 6, 250, 250))),
    }
    assert [name for name, data in changed.items() if not hashes.near(hashes.phash(data), removed)] == []


def test_other_pictures_are_not_taken_for_it() -> None:
    removed = hashes.variants(encoded(drawn(0)))
    assert not any(hashes.near(hashes.phash(encoded(drawn(seed))), removed) for seed in range(1, 30))
    assert not hashes.near(removed[0], [])


def test_what_nobody_sees_behind_transparency_makes_no_difference() -> None:
    visible = Image.new("RGBA", (64, 64))
    visible.paste(drawn(1).resize((40, 40)), (12, 12))
    hidden = visible.copy()
    hidden.putdata([(255, 0, 90, 0) if alpha == 0 else (r, g, b, alpha) for r, g, b, alpha in visible.getdata()])
    assert hashes.phash(encoded(visible)) == hashes.phash(encoded(hidden))


def test_what_is_no_picture_has_no_hash() -> None:
    with pytest.raises(OSError):
        hashes.phash(b"no picture")
