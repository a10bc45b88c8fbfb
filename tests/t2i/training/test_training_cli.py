"""`t2i train` from a terminal: a run, what it leaves behind, and a checkpoint made of it."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

import t2i
from t2i.cli import main
from t2i.training.config import read_config
from t2i.training.loop import Trainer

CONFIGS = Path(__file__).parents[3] / "configs"
CARD = """
name = "small"
description = "Squares."
licence = "MIT"
upsampler_steps = 2
defaults = {steps = 2, sampler = "flow_euler", guidance_scale = 3.0, size = 64}
"""


@pytest.fixture
def trained(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the run that configs/tiny.toml describes."""
    data = tmp_path / "runs" / "tiny" / "data"
    data.mkdir(parents=True)
    for picture in (folder / "images").iterdir():
        shutil.copy(picture, data)
        (data / f"{picture.stem}.txt").write_text(f"a {picture.stem} square")
    shutil.copytree(folder / "text_encoder", data / "text_encoder")
    monkeypatch.chdir(tmp_path)
    assert main(["train", "base", "--config", str(CONFIGS / "tiny.toml")]) == 0
    return tmp_path / "runs" / "tiny"


def test_a_tiny_run_leaves_its_state_its_curves_and_its_pictures(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    losses = json.loads((trained / "losses.json").read_text())
    assert len(losses) == 50
    with Image.open(trained / "samples-000050.png") as sheet, Image.open(trained / "losses.png") as plot:
        assert sheet.size == (64, 48) and plot.width > 400
    board = EventAccumulator(str(trained / "tensorboard")).Reload()
    scalars = {name: [event.value for event in board.Scalars(name)] for name in board.Tags()["scalars"]}
    assert scalars["loss"] == pytest.approx(losses, abs=1e-4)
    assert scalars["examples"][-1] == 200 and scalars["learning rate"][0] < max(scalars["learning rate"])
    assert [event.step for event in board.Images("samples")] == [25, 50]

    assert main(["train", "base", "--config", str(CONFIGS / "tiny.toml")]) == 0
    assert len(json.loads((trained / "losses.json").read_text())) == 50, "a run that is over has nothing to resume"
    assert main(["train", "lora", "--config", str(CONFIGS / "tiny.toml")]) == 1
    assert "is for t2i train base" in capsys.readouterr().err


def test_a_run_and_a_network_of_another_checkpoint_make_one(
    trained: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    card = tmp_path / "card.toml"
    card.write_text(CARD)
    arguments = ["--base", str(CONFIGS / "tiny.toml"), "--upsampler", str(tiny_checkpoint / "upsampler")]
    assert main(["train", "assemble", *arguments, "--card", str(card), "--out", str(tmp_path / "small")]) == 0
    drawn = t2i.load(tmp_path / "small", "cpu").generate(t2i.GenerationRequest(prompt="a red square", seed=1))
    assert drawn.images[0].size == (64, 64)


def test_without_tensorboard_a_run_says_so_and_goes_on(
    config: Callable[..., object], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    trainer = Trainer(config(steps=1))  # type: ignore[arg-type]
    trainer.run()
    assert trainer.step == 1 and "TensorBoard is not installed" in caplog.text
    assert not (trainer.out / "tensorboard").exists()


def test_the_configurations_of_the_embedded_checkpoint_name_its_networks() -> None:
    base, upsampler = (read_config(CONFIGS / f"{name}.toml") for name in ("base", "upsampler"))
    assert (base.resolution, upsampler.resolution) == (64, 256)
