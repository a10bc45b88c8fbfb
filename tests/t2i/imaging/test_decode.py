"""Files that someone sent: every kind of picture is read as it is looked at, anything else is refused in a sentence."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from t2i.api import MAX_IMAGE_BYTES, InvalidRequest
from t2i.imaging.decode import MAX_PIXELS, decode_mask, decode_picture

GRADIENT = Image.fromarray(np.stack(np.meshgrid(range(24), range(16)), 2).astype(np.uint8) * 10).convert("L")
COLOURS = Image.merge("RGB", [GRADIENT, ImageOps.mirror(GRADIENT), ImageOps.flip(GRADIENT)])


def as_file(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def png(width: int, height: int, colour_type: int, depth: int, rows: bytes) -> bytes:
    """A PNG file whose header may say what its rows are not."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def close(one: Image.Image, other: Image.Image, by: int) -> bool:
    return int(np.abs(np.asarray(one).astype(int) - np.asarray(other).astype(int)).max()) <= by


@pytest.mark.parametrize(
    ("kind", "options", "by"),
    [("PNG", {}, 0), ("BMP", {}, 0), ("WEBP", {"lossless": True}, 0), ("JPEG", {"quality": 100, "subsampling": 0}, 4)],
)
def test_a_picture_is_read_whatever_its_format(kind: str, options: dict[str, object], by: int) -> None:
    picture = decode_picture(as_file(COLOURS, kind, **options))
    assert picture.mode == "RGB" and close(picture, COLOURS, by)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_picture_is_turned_upright(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    file = as_file(COLOURS, kind, exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(file)))
    picture = decode_picture(file)
    assert picture.size == expected.size and close(picture, expected, 0)
    assert picture.info == {} and not picture.getexif()


@pytest.mark.parametrize(
    "exif",
    [b"no metadata", b"II*\x00\x08\0\0\0\x01\0" + struct.pack("<HHI4sI", 274, 2, 4, b"up\0\0", 0)],
    ids=["garbage", "a word for an orientation"],
)
def test_damaged_metadata_leaves_the_picture_as_it_lies(exif: bytes) -> None:
    assert close(decode_picture(as_file(COLOURS, exif=b"Exif\0\0" + exif)), COLOURS, 0)


def test_grey_of_sixteen_bits_is_scaled() -> None:
    values = np.array([[0, 257, 32850, 65535]], np.uint16)
    picture = decode_picture(as_file(Image.fromarray(values)))
    assert picture.mode == "RGB"
    assert np.asarray(picture)[0, :, 0].tolist() == [0, 1, 128, 255]


def test_colours_of_sixteen_bits_are_scaled() -> None:
    row = b"\x00" + struct.pack(">4H", 65535, 32896, 0, 32896)
    picture = decode_picture(png(1, 1, 6, 16, row))
    assert picture.mode == "RGBA" and picture.getpixel((0, 0)) == (255, 128, 0, 128)


def test_few_colours_become_all_colours_and_a_transparent_one_shows_through() -> None:
    palette = COLOURS.quantize(16)
    opaque = decode_picture(as_file(palette))
    assert opaque.mode == "RGB" and close(opaque, palette.convert("RGB"), 0)
    corner = palette.getpixel((0, 0))
    for kind in ("PNG", "GIF"):
        holed = decode_picture(as_file(palette, kind, transparency=corner))
        assert holed.mode == "RGBA"
        assert np.array_equal(np.asarray(holed)[..., 3] == 0, np.asarray(palette) == corner)


def test_ink_becomes_light() -> None:
    ink = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    assert close(decode_picture(as_file(ink, "JPEG", quality=100)), Image.new("RGB", (8, 8), "red"), 4)


def test_grey_with_transparency_keeps_it() -> None:
    grey = Image.merge("LA", [GRADIENT, ImageOps.mirror(GRADIENT)])
    assert close(decode_picture(as_file(grey)), grey.convert("RGBA"), 0)


def test_transparency_that_hides_nothing_is_dropped() -> None:
    assert decode_picture(as_file(COLOURS.convert("RGBA"))).mode == "RGB"


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_is_taken(kind: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("blue", "red")]
    file = as_file(frames[0], kind, save_all=True, append_images=frames[1:])
    assert close(decode_picture(file), frames[0], 2)


def test_a_photograph_with_a_second_picture_in_it_is_a_photograph() -> None:
    file = as_file(COLOURS, "MPO", save_all=True, append_images=[ImageOps.flip(COLOURS)], quality=100, subsampling=0)
    assert close(decode_picture(file), COLOURS, 4)


@pytest.mark.parametrize("kind", ["TIFF", "ICO", "PPM", "PDF"])
def test_other_formats_are_refused_by_their_content(kind: str) -> None:
    with pytest.raises(InvalidRequest, match="not a PNG, JPEG") as refusal:
        decode_picture(as_file(COLOURS, kind), field="mask")
    assert refusal.value.field == "mask" and "mask" in str(refusal.value)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_a_file_that_ends_too_early_is_refused(kind: str) -> None:
    file = as_file(COLOURS.resize((200, 100)), kind)
    for length in (0, 1, 20, len(file) // 2):
        with pytest.raises(InvalidRequest):
            decode_picture(file[:length])


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded() -> None:
    for side in (int(MAX_PIXELS**0.5) + 1, 60_000):
        with pytest.raises(InvalidRequest, match="40 million pixels"):
            decode_picture(png(side, side, 2, 8, b"not a row"))


def test_a_file_of_too_many_bytes_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="larger than 32 MB"):
        decode_picture(as_file(COLOURS) + bytes(MAX_IMAGE_BYTES))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    file=st.sampled_from([as_file(COLOURS, kind) for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP")]),
    damage=st.lists(st.tuples(st.integers(0, 400), st.binary(min_size=1, max_size=4)), min_size=1, max_size=6),
)
def test_a_damaged_file_is_a_picture_or_refused(file: bytes, damage: list[tuple[int, bytes]]) -> None:
    damaged = bytearray(file)
    for place, content in damage:
        damaged[place % len(file) : place % len(file) + len(content)] = content
    try:
        assert decode_picture(bytes(damaged)).mode in ("RGB", "RGBA")
    except InvalidRequest as refusal:
        assert str(refusal).endswith(".")


@given(
    st.binary(max_size=200), st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"BM", b"RIFF"])
)
def test_bytes_that_are_no_picture_are_refused(content: bytes, start: bytes) -> None:
    with pytest.raises(InvalidRequest):
        decode_picture(start + content)


def test_a_mask_is_white_where_something_is_drawn_anew() -> None:
    assert close(decode_mask(as_file(GRADIENT), GRADIENT.size), GRADIENT, 0)


def test_what_is_transparent_in_a_mask_stays() -> None:
    strokes = Image.new("RGBA", (4, 1), (255, 255, 255, 0))
    strokes.putpixel((1, 0), (255, 255, 255, 255))
    strokes.putpixel((2, 0), (255, 255, 255, 128))
    mask = decode_mask(as_file(strokes), (4, 1))
    assert mask.mode == "L" and np.asarray(mask)[0].tolist() == [0, 255, 128, 0]


def test_a_mask_of_another_size_is_refused_with_both_sizes() -> None:
    with pytest.raises(InvalidRequest, match=r"24x16.*16x24") as refusal:
        decode_mask(as_file(GRADIENT), (16, 24))
    assert refusal.value.field == "mask"
