"""Sheets of labelled pictures, to be looked at."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

CELL = 160
_TEXT = 34
"""Pixels under each picture, enough for two lines."""
_LETTER = 12


def labelled(pictures: Sequence[Image.Image], labels: Sequence[str], columns: int) -> Image.Image:
    """Pictures on white, each CELL pixels wide, with its label below."""
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * CELL, rows * (CELL + _TEXT)), "white")
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(_LETTER)
    for index, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        left, top = index % columns * CELL, index // columns * (CELL + _TEXT)
        shown = picture.convert("RGBA").resize((CELL, CELL), Image.Resampling.BICUBIC)
        sheet.paste(shown, (left, top), shown)
        lines = _wrapped(label, pen, font)
        pen.multiline_text((left + CELL / 2, top + CELL), lines, "black", font, anchor="ma", align="center")
    return sheet


def _wrapped(label: str, pen: ImageDraw.ImageDraw, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> str:
    """The label in lines that are not wider than a cell."""
    lines = [""]
    for word in label.split():
        longer = f"{lines[-1]} {word}".strip()
        if pen.textlength(longer, font) < CELL - 8:
            lines[-1] = longer
        else:
            lines.append(word)
    return "\n".join(lines[:2])
