"""Generated art in two hands, so that judging needs no download."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from t2i.evaluation.study import Folders

COLOURS = {"red": (220, 30, 30), "green": (30, 170, 60), "blue": (40, 70, 230)}
SHAPES = ("box", "ball")


def _draw(shape: str, colour: tuple[int, int, int], margin: int) -> Image.Image:
    image = Image.new("RGBA", (64, 64))
    pen = ImageDraw.Draw(image)
    place = (margin, margin + 2, 63 - margin, 65 - margin)
    (pen.rectangle if shape == "box" else pen.ellipse)(place, colour, (40, 40, 40), 2)
    return image


def _write(folder: Path, margin: int) -> Path:
    (folder / "images").mkdir(parents=True)
    lines = []
    for name, colour in COLOURS.items():
        for shape in SHAPES:
            file = f"{name}-{shape}.png"
            _draw(shape, colour, margin).save(folder / "images" / file)
            lines.append(json.dumps({"file": file, "caption": f"{name} {shape}", "group": 3}))
    (folder / "captions.jsonl").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> Path:
    """Six pictures of three colours and two shapes, as training data with its text encoder."""
    folder = _write(tmp_path_factory.mktemp("art") / "data", margin=12)
    shutil.copytree(tiny_checkpoint / "text_encoder", folder / "text_encoder")
    return folder


@pytest.fixture(scope="session")
def art(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same things by another hand."""
    return _write(tmp_path_factory.mktemp("art") / "other", margin=9)


@pytest.fixture(scope="session")
def folders(data: Path, art: Path, tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """Both, and where the scorer is kept that all tests share."""
    return Folders(data, art, tmp_path_factory.mktemp("scorers"))
