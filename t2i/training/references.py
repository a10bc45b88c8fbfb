"""The reference pictures of a checkpoint: the art it was trained on, small."""

from __future__ import annotations

from pathlib import Path

import torch

from t2i.families import references
from t2i.families.references import Entry
from t2i.families.text import TextEncoder
from t2i.training.data import load_folder

QUALITY = 58
"""Of the WebP sheet: what a megabyte has room for."""


def write(data: Path, text_encoder: Path, side: int, out: Path) -> None:
    """The art of a training folder as references of `side` pixels. Raises DatasetError."""
    arts = load_folder(data, side)
    entries = [Entry(art.label, art.names) for art in arts]
    encoder = TextEncoder(text_encoder, torch.device("cpu"))
    references.save(out, [art.pixels for art in arts], entries, encoder.sentences, quality=QUALITY)
