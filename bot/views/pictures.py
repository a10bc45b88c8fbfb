"""Pictures as Discord shall show them: large enough to see, encoded as asked, named after their prompt."""

from __future__ import annotations

import io
import re

from PIL import Image

from bot.jobs.delivery import Encoding
from t2i.provenance import Marks, Signer

SHOWN_SIZE = 256
"""Pixels that the longer side of a picture at least has in a message; smaller ones are enlarged for display."""

SMALL_SIZE = 1024
"""Pixels that the longer side of a picture has at most where files have to be small."""

QUALITY = 90
"""Of WebP and JPEG."""


def for_display(data: bytes, encoding: Encoding, marks: Marks | None = None) -> bytes:
    """The picture as a file of that encoding, at least SHOWN_SIZE large (Lanczos), with its marks in it."""
    image = Image.open(io.BytesIO(data))
    if encoding == "small":
        image.thumbnail((SMALL_SIZE, SMALL_SIZE), Image.Resampling.LANCZOS)
        encoding = "jpeg"
    if marks is None and max(image.size) >= SHOWN_SIZE and image.format == encoding.upper():
        return data
    shown = image.convert("RGBA")
    if encoding == "jpeg":
        shown = _on_white(shown)
    if max(shown.size) < SHOWN_SIZE:
        scale = SHOWN_SIZE / max(shown.size)
        shown = shown.resize((round(shown.width * scale), round(shown.height * scale)), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    shown.save(out, encoding, quality=QUALITY, **(marks.saving(encoding) if marks else {}))
    return out.getvalue()


def finished(data: bytes, encoding: Encoding, marks: Marks, title: str, signer: Signer | None) -> bytes:
    """The picture as people get it: marked, and signed where there is a certificate."""
    shown = for_display(data, encoding, marks)
    return shown if signer is None else signer.sign(shown, extension(encoding), title)


def _on_white(image: Image.Image) -> Image.Image:
    """JPEG has no transparency."""
    ground = Image.new("RGB", image.size, "white")
    ground.paste(image, mask=image)
    return ground


def file_name(prompt: str, job_id: int, number: int, encoding: Encoding) -> str:
    """A name a person recognises in a downloads folder, made of what every platform accepts."""
    words = re.findall(r"[a-z0-9]+", prompt.lower())
    return f"{'-'.join(words)[:40].strip('-') or 'picture'}-{job_id}-{number}.{extension(encoding)}"


def extension(encoding: Encoding) -> str:
    return "jpeg" if encoding == "small" else encoding
