"""Pictures from bytes that someone sent: whatever they hold, a picture or one plain sentence comes out."""

from __future__ import annotations

import io

from PIL import ExifTags, Image

from t2i.api import MAX_IMAGE_BYTES, InvalidRequest

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
"""By content; a file's name says nothing."""
MAX_PIXELS = 40_000_000

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes an orientation (Exif 2.3, tag 274)."""


def decode_picture(file: bytes, *, field: str = "image") -> Image.Image:
    """The picture in a file, as it is looked at: upright, RGBA where anything shows through, otherwise RGB.

    Of an animation the first frame; of metadata nothing but the orientation, so colours count as sRGB. Raises
    InvalidRequest for other formats than FORMATS, damaged files, and more than MAX_IMAGE_BYTES or, before anything is
    decoded, MAX_PIXELS.
    """
    if len(file) > MAX_IMAGE_BYTES:
        raise InvalidRequest(field, f"The {field} is larger than {MAX_IMAGE_BYTES // 2**20} MB.")
    try:
        picture = Image.open(io.BytesIO(file), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise _too_large(field) from error
    except Exception as error:  # Pillow's decoders fail in many ways on files that are none.
        raise InvalidRequest(field, f"The {field} is not a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} file.") from error
    if picture.width * picture.height > MAX_PIXELS:
        raise _too_large(field)
    try:
        picture.load()
        return _upright(_plain(picture), _orientation(picture))
    except Exception as error:
        raise InvalidRequest(field, f"The {field} is damaged and cannot be read; send it again.") from error


def decode_mask(file: bytes, size: tuple[int, int], *, field: str = "mask") -> Image.Image:
    """A mask for a picture of `size` (width, height), mode L: white is drawn anew, black stays.

    What is transparent in the file counts as black. Raises InvalidRequest as decode_picture does, and for other sizes.
    """
    mask = decode_picture(file, field=field)
    if mask.size != size:
        raise InvalidRequest(
            field,
            f"The {field} is {mask.width}x{mask.height} pixels and its picture {size[0]}x{size[1]}; make them equal.",
        )
    if mask.mode == "RGBA":
        mask = Image.alpha_composite(Image.new("RGBA", size, "black"), mask)
    return mask.convert("L")


def _too_large(field: str) -> InvalidRequest:
    return InvalidRequest(field, f"The {field} has more than {MAX_PIXELS // 10**6} million pixels; send a smaller one.")


def _plain(picture: Image.Image) -> Image.Image:
    """RGB or RGBA, 8 bits each, with no metadata."""
    if picture.mode.startswith("I"):
        # Pillow would cut 16 bits off at 255 instead of scaling them.
        picture = picture.convert("I").point(lambda value: value * (255 / 65535) + 0.5).convert("L")
        picture.info = {}
    if picture.has_transparency_data:
        plain = picture.convert("RGBA")
        if plain.getchannel("A").getextrema() == (255, 255):
            plain = plain.convert("RGB")
    else:
        plain = picture.convert("RGB")
    plain.info = {}
    return plain


def _orientation(picture: Image.Image) -> int:
    try:
        return int(picture.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # Damaged metadata does not make a picture unreadable.
        return 1


def _upright(picture: Image.Image, orientation: int) -> Image.Image:
    return picture.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else picture
