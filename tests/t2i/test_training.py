"""Training: exact resumption, a reproducible stream of examples, and a network that does learn."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from t2i.families.networks import NetworkShape
from t2i.training.loop import Config, Trainer, TrainingError, read_config


@pytest.fixture
def folder(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """Three coloured squares with captions, and a text encoder."""
    data = tmp_path / "data"
    (data / "images").mkdir(parents=True)
    lines = []
    for name, colour in {"red": (255, 0, 0), "green": (0, 200, 0), "blue": (0, 0, 255)}.items():
        image = Image.new("RGBA", (32, 32))
        image.paste((*colour, 255), (8, 8, 24, 24))
        image.save(data / "images" / f"{name}.png")
        lines.append(json.dumps({"file": f"{name}.png", "caption": f"{name} square"}))
    (data / "captions.jsonl").write_text("\n".join(lines))
    shutil.copytree(tiny_checkpoint / "text_encoder", data / "text_encoder")
    return data


def config(folder: Path, out: Path, **changes) -> Config:
    fields = {
        "task": "base", "data": str(folder), "out": str(out), "resolution": 16, "batch_size": 4, "steps": 12,
        "network": NetworkShape([32, 32], [False, True], 4), "warmup": 2, "save_every": 100, "sample_every": 100,
    }  # fmt: skip
    return Config(**fields | changes)


@pytest.mark.parametrize("task", ["base", "upsampler"])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(folder: Path, tmp_path: Path, task: str) -> None:
    straight = Trainer(config(folder, tmp_path / "straight", task=task))
    straight.run()
    Trainer(config(folder, tmp_path / "broken", task=task)).run(until=5)
    resumed = Trainer(config(folder, tmp_path / "broken", task=task))
    assert resumed.resume()
    assert resumed.step == 5
    resumed.run()
    assert resumed.losses == pytest.approx(straight.losses, abs=1e-5)
    for name, weight in straight.ema.items():
        assert torch.equal(weight, resumed.ema[name]), name


def test_the_loss_falls(folder: Path, tmp_path: Path) -> None:
    trainer = Trainer(config(folder, tmp_path / "out", steps=40, learning_rate=3e-3))
    trainer.run()
    assert np.mean(trainer.losses[-10:]) < 0.6 * np.mean(trainer.losses[:5])


def test_a_run_without_its_data_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"holds no captions.jsonl"):
        Trainer(config(tmp_path, tmp_path / "out"))


def test_a_bad_configuration_is_named(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text("task = 'base'")
    with pytest.raises(TrainingError, match="is not a training configuration"):
        read_config(file)


def test_the_shipped_configurations_are_readable() -> None:
    for name in ("base", "upsampler"):
        assert read_config(Path("configs") / f"{name}.toml").task == name
