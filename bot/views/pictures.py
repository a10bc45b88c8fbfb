"""Pictures as Discord shall show them: large enough to see, small enough to upload, named after their prompt."""

from __future__ import annotations

import io
import re

from PIL import Image

SHOWN_SIZE = 256
"""Pixels of the longer side that a picture at least has in a message; smaller ones are enlarged for display."""

UPLOAD_LIMIT = 10 * 1024 * 1024
"""Bytes a file may have wherever a bot posts."""


def for_display(data: bytes, limit: int = UPLOAD_LIMIT) -> tuple[bytes, str]:
    """The picture to attach and its file suffix.

    A small picture is enlarged (Lanczos); one that passes the limit becomes WebP, in falling quality until it fits.
    """
    image = Image.open(io.BytesIO(data))
    if max(image.size) < SHOWN_SIZE:
        scale = SHOWN_SIZE / max(image.size)
        size = (round(image.width * scale), round(image.height * scale))
        data = _encoded(image.convert("RGB").resize(size, Image.Resampling.LANCZOS), image.format or "PNG", quality=90)
    if len(data) <= limit:
        return data, (image.format or "PNG").lower()
    for quality in (95, 85, 70, 50):
        data = _encoded(Image.open(io.BytesIO(data)), "WEBP", quality=quality)
        if len(data) <= limit:
            break
    return data, "webp"


def file_name(prompt: str, job_id: int, index: int, suffix: str) -> str:
    """A name a person can recognise in a downloads folder, made of what every platform accepts."""
    words = re.findall(r"[a-z0-9]+", prompt.lower())
    return f"{'-'.join(words)[:40].strip('-') or 'picture'}-{job_id}-{index}.{suffix}"


def _encoded(image: Image.Image, format: str, *, quality: int) -> bytes:
    out = io.BytesIO()
    image.save(out, format, quality=quality)
    return out.getvalue()
