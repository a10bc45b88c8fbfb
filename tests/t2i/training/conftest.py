"""Folders of generated pictures and runs small enough to be over in a second."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from t2i.families.networks import NetworkShape
from t2i.training.config import Config

COLOURS = {"red": (255, 0, 0), "green": (0, 200, 0), "blue": (0, 0, 255)}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small lose more by handing work to other threads than they gain."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def square(colour: tuple[int, int, int]) -> Image.Image:
    image = Image.new("RGBA", (32, 32))
    image.paste((*colour, 255), (8, 8, 24, 24))
    return image


@pytest.fixture
def folder(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """Three coloured squares with captions, and a text encoder."""
    data = tmp_path / "data"
    (data / "images").mkdir(parents=True)
    lines = []
    for name, colour in COLOURS.items():
        square(colour).save(data / "images" / f"{name}.png")
        lines.append(json.dumps({"file": f"{name}.png", "caption": f"{name} square"}))
    (data / "captions.jsonl").write_text("\n".join(lines))
    shutil.copytree(tiny_checkpoint / "text_encoder", data / "text_encoder")
    return data


@pytest.fixture
def config(folder: Path, tmp_path: Path) -> Callable[..., Config]:
    """A run of a tiny network in the folder `out` of the test's own."""

    def build(out: str = "out", **changes: object) -> Config:
        fields = {
            "task": "base", "data": str(folder), "out": str(tmp_path / out), "resolution": 16, "batch_size": 4,
            "steps": 20, "network": NetworkShape([32, 32], [False, True], 4), "warmup": 2, "save_every": 100,
            "sample_every": 100, "device": "cpu",
        }  # fmt: skip
        return Config(**fields | changes)  # type: ignore[arg-type]

    return build
