"""Pictures cut, extended and put together, to the pixel."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from t2i.imaging.canvas import FEATHER, OVERLAP, extend, fit, make_square, paste, zoom_out


def noise(width: int, height: int, mode: str = "RGB", seed: int = 0) -> Image.Image:
    shape = (height, width, len(mode)) if mode != "L" else (height, width)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, np.uint8))


def red_on_nothing(width: int, height: int) -> Image.Image:
    """The right half is red, the left one transparent and black beneath."""
    picture = Image.new("RGBA", (width, height))
    picture.paste("red", (width // 2, 0, width, height))
    return picture


def fringes(picture: Image.Image) -> bool:
    """Whether anything visible is darker than the red it was made from."""
    pixels = np.asarray(picture).astype(int)
    visible = pixels[pixels[..., 3] > 16]
    return bool((visible[:, 0] < 235).any())


def box(size: tuple[int, int], white: tuple[int, int, int, int]) -> Image.Image:
    mask = Image.new("L", size)
    mask.paste("white", white)
    return mask


def test_fitting_keeps_the_middle_and_no_shape_is_stretched() -> None:
    picture = Image.new("RGB", (300, 100), "blue")
    picture.paste("red", (100, 0, 200, 100))
    fitted = fit(picture, 50, 50)
    assert fitted.size == (50, 50)
    assert np.asarray(fitted)[:, 3:-3].reshape(-1, 3).tolist() == [[255, 0, 0]] * (50 * 44)
    assert fit(picture.transpose(Image.Transpose.ROTATE_90), 50, 50).getpixel((25, 25)) == (255, 0, 0)


def test_a_picture_that_fits_is_not_touched() -> None:
    for mode in ("RGB", "RGBA", "L"):
        picture = noise(40, 24, mode)
        assert np.array_equal(np.asarray(fit(picture, 40, 24)), np.asarray(picture))


def test_scaling_leaves_no_dark_fringe_around_what_is_transparent() -> None:
    fitted = fit(red_on_nothing(101, 101), 40, 40)
    assert fitted.mode == "RGBA" and fitted.getextrema()[3] == (0, 255)
    assert not fringes(fitted)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_an_extended_picture_holds_the_old_one_unchanged(mode: str) -> None:
    picture = noise(80, 72, mode)
    extended, _ = extend(picture, 16, 0, 24, 40)
    assert extended.mode == mode and extended.size == (120, 112)
    assert np.array_equal(np.asarray(extended)[:72, 16:96], np.asarray(picture))


def test_the_mask_of_new_ground_reaches_a_little_into_the_picture_where_it_grew() -> None:
    _, mask = extend(noise(80, 72), 16, 0, 24, 40)
    expected = np.full((112, 120), 255)
    expected[: 72 - OVERLAP, 16 + OVERLAP : 96 - OVERLAP] = 0
    assert mask.mode == "L" and np.array_equal(np.asarray(mask), expected)


def test_new_ground_holds_the_colours_of_the_nearest_edge() -> None:
    picture = Image.new("RGB", (64, 64), "white")
    picture.paste("red", (0, 0, 16, 64))
    picture.paste("blue", (48, 0, 64, 64))
    extended, _ = extend(picture, 32, 8, 32, 8)
    assert extended.getpixel((0, 40)) == (255, 0, 0) and extended.getpixel((127, 40)) == (0, 0, 255)
    assert extended.getpixel((0, 0)) == (255, 0, 0) and extended.getpixel((127, 79)) == (0, 0, 255)


def test_new_ground_beside_something_transparent_has_no_dark_fringe() -> None:
    extended, _ = extend(red_on_nothing(64, 64), 0, 32, 0, 32)
    assert not fringes(extended)


@pytest.mark.parametrize(
    ("sides", "corner", "size"),
    [
        ((10, 0, 0, 0), (13, 0), (64, 48)),
        ((0, 10, 0, 0), (0, 13), (56, 56)),
        ((10, 0, 10, 0), (10, 0), (72, 48)),
        ((5, 5, 0, 0), (5, 5), (56, 48)),
    ],
)
def test_sides_are_rounded_to_what_a_network_draws(
    sides: tuple[int, int, int, int], corner: tuple[int, int], size: tuple[int, int]
) -> None:
    picture = noise(51, 43)
    extended, mask = extend(picture, *sides, multiple=8)
    assert extended.size == mask.size == size
    part = np.asarray(extended)[corner[1] : corner[1] + 43, corner[0] : corner[0] + 51]
    assert np.array_equal(part, np.asarray(picture))


def test_extending_by_nothing_draws_nothing() -> None:
    picture = noise(16, 16)
    extended, mask = extend(picture, 0, 0, 0, 0)
    assert np.array_equal(np.asarray(extended), np.asarray(picture)) and mask.getextrema() == (0, 0)


def test_zooming_out_leaves_the_picture_small_in_the_middle() -> None:
    picture = noise(96, 64)
    zoomed, mask = zoom_out(picture, 2)
    assert zoomed.size == mask.size == (96, 64)
    small = picture.resize((48, 32), Image.Resampling.LANCZOS)
    assert np.array_equal(np.asarray(zoomed)[16:48, 24:72], np.asarray(small))
    kept = np.argwhere(np.asarray(mask) == 0)
    assert kept.min(0).tolist() == [16 + 8, 24 + 12] and kept.max(0).tolist() == [47 - 8, 71 - 12]


@pytest.mark.parametrize("size", [(96, 64), (64, 96), (61, 30)])
def test_a_picture_becomes_square_around_its_middle(size: tuple[int, int]) -> None:
    picture = noise(*size)
    square, mask = make_square(picture, multiple=8)
    side = -(-max(size) // 8) * 8
    assert square.size == mask.size == (side, side)
    left, top = (side - size[0]) // 2, (side - size[1]) // 2
    assert np.array_equal(np.asarray(square)[top : top + size[1], left : left + size[0]], np.asarray(picture))


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_outside_the_mask_every_pixel_is_the_original_and_deep_inside_the_drawn_one(mode: str) -> None:
    original, drawn = noise(96, 80, mode), noise(96, 80, mode, seed=1)
    mask = box(original.size, (20, 16, 80, 70))
    pasted = np.asarray(paste(drawn, original, mask))
    white = np.asarray(mask) > 0
    assert np.array_equal(pasted[~white], np.asarray(original)[~white])
    deep = np.s_[16 + FEATHER : 70 - FEATHER, 20 + FEATHER : 80 - FEATHER]
    assert np.array_equal(pasted[deep], np.asarray(drawn)[deep])


def test_a_drawing_fades_in_from_the_edge_of_the_mask_but_not_from_the_edge_of_the_picture() -> None:
    black, white = Image.new("RGB", (64, 64)), Image.new("RGB", (64, 64), "white")
    line = np.asarray(paste(white, black, box((64, 64), (0, 0, 40, 64))))[32, :, 0].astype(int)
    assert line[: 40 - FEATHER].tolist() == [255] * (40 - FEATHER) and line[40:].tolist() == [0] * 24
    assert set(np.diff(line[40 - FEATHER : 41])) == {-17}


def test_a_thin_stroke_is_seen() -> None:
    black, white = Image.new("RGB", (64, 64)), Image.new("RGB", (64, 64), "white")
    assert paste(white, black, box((64, 64), (30, 0, 31, 64))).getpixel((30, 32)) == (17, 17, 17)


def test_grey_in_a_mask_divides_at_the_half() -> None:
    original, drawn = noise(64, 64), noise(64, 64, seed=1)
    assert np.array_equal(np.asarray(paste(drawn, original, Image.new("L", (64, 64), 127))), np.asarray(original))
    assert np.array_equal(np.asarray(paste(drawn, original, Image.new("L", (64, 64), 128))), np.asarray(drawn))


def test_a_drawing_on_something_transparent_is_transparent_outside_and_has_no_dark_fringe() -> None:
    empty = Image.new("RGBA", (64, 64))
    pasted = paste(Image.new("RGB", (64, 64), "red"), empty, box((64, 64), (8, 8, 56, 56)))
    assert pasted.mode == "RGBA" and pasted.getpixel((0, 0)) == (0, 0, 0, 0)
    assert pasted.getpixel((32, 32)) == (255, 0, 0, 255)
    assert not fringes(pasted)
