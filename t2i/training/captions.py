"""Folders of pictures with captions, as people have them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from t2i.api import T2IError

_PICTURES = (".png", ".webp", ".jpg", ".jpeg", ".gif", ".bmp")


class DatasetError(T2IError):
    """The training folder is not what it should be."""


@dataclass(frozen=True, slots=True)
class Captioned:
    """A picture's file, its caption, and what captions.jsonl may say beside it: `references` are pictures of the same
    thing by others."""

    file: Path
    caption: str
    tags: tuple[str, ...] = ()
    group: int | None = None
    references: tuple[Path, ...] = ()

    def open(self) -> Image.Image:
        return open_picture(self.file)


def read_folder(folder: Path, caption: str = "") -> list[Captioned]:
    """The captioned pictures of a folder.

    captions.jsonl names them, a line each (file in images/, caption, optional tags, group, and references in
    references/); without it, every picture is captioned by a .txt file of its name, or else by `caption`, and left out
    where that is empty. Raises DatasetError.
    """
    listing = folder / "captions.jsonl"
    found = _listed(listing) if listing.is_file() else _paired(folder, caption)
    if not found:
        raise DatasetError(f"{folder} holds no captions.jsonl and no pictures with .txt captions beside them.")
    return found


def open_picture(file: Path) -> Image.Image:
    """RGBA, turned as its camera was held. Raises DatasetError."""
    try:
        with Image.open(file) as opened:
            return ImageOps.exif_transpose(opened).convert("RGBA")
    except OSError as error:
        raise DatasetError(f"{file} cannot be read as a picture.") from error


def _listed(listing: Path) -> list[Captioned]:
    try:
        entries = [json.loads(line) for line in listing.read_text().splitlines() if line.strip()]
        return [_entry(listing.parent, entry) for entry in entries]
    except KeyError as error:
        raise DatasetError(f"A line of {listing} lacks {error}.") from error
    except (ValueError, TypeError) as error:
        raise DatasetError(f"{listing} is not one JSON object a line: {error}.") from error


def _entry(folder: Path, entry: dict[str, Any]) -> Captioned:
    group = entry.get("group")
    return Captioned(
        folder / "images" / entry["file"],
        str(entry["caption"]),
        tuple(entry.get("tags") or ()),
        group if isinstance(group, int) else None,
        tuple(folder / "references" / name for name in entry.get("references") or ()),
    )


def _paired(folder: Path, caption: str) -> list[Captioned]:
    # By name, so that every machine sees the same order.
    files = sorted(file for file in folder.glob("*") if file.suffix.lower() in _PICTURES)
    captions = {file: _text_beside(file) or caption for file in files}
    return [Captioned(file, text) for file, text in captions.items() if text]


def _text_beside(file: Path) -> str:
    text = file.with_suffix(".txt")
    return text.read_text().strip() if text.is_file() else ""
