"""`t2i evaluate` from end to end, on generated art and an untrained checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from t2i import checkpoints, cli
from t2i.evaluation import prompts
from t2i.evaluation.scorer import stack
from t2i.evaluation.study import QUICK, Folders, evaluate
from t2i.training.data import load_folder

pytestmark = pytest.mark.usefixtures("one_thread")


def without_times(figures: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in figures.items() if not name.startswith("seconds")}


def test_the_command_writes_figures_gates_and_pictures_and_says_the_same_twice(
    tiny_checkpoint: Path, folders: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reports = []
    for name in ("one", "two"):
        code = cli.main([
            "evaluate", "--quick", "--checkpoint", str(tiny_checkpoint), "--data", str(folders.data),
            "--art", str(folders.art), "--scorers", str(folders.scorers), "--json", str(tmp_path / f"{name}.json"),
            "--grid", str(tmp_path / f"{name}.png"), "--nearest", str(tmp_path / "nearest.png"),
        ])  # fmt: skip
        report = json.loads((tmp_path / f"{name}.json").read_text())
        assert code == (0 if all(gate["holds"] for gate in report["gates"]) else 1)
        reports.append(report)
    figures = reports[0]["figures"]
    assert without_times(figures) == without_times(reports[1]["figures"])
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    assert {gate["name"] for gate in reports[0]["gates"]} >= {"R@5 over seen labels, at least", "colours, at least"}
    # It draws noise, which is further from real pictures than they are from each other.
    assert figures["distance"]["drawn"] > 3 * figures["distance"]["real"]
    assert figures["attributes"]["colours"]["drawn"] < figures["attributes"]["colours"]["real"]
    assert Image.open(tmp_path / "nearest.png").width > 500
    assert "seen labels" in capsys.readouterr().out


def test_a_picture_nearer_to_training_art_than_its_collage_fails_the_gate(
    tiny_checkpoint: Path, folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = checkpoints.load(tiny_checkpoint, "cpu")
    copy = stack([load_folder(folders.data, 64)[0].pixels])[0] * 2 - 1
    # What an untrained network draws is far from any picture, and this is further.
    far = torch.rand(copy.shape, generator=torch.Generator().manual_seed(0)).round() * 2 - 1
    starts: list[Tensor | None] = []

    def collage(prompt: str, seed: int) -> Tensor | None:
        starts.append(far if "wearing" in prompt else None if "above" in prompt else copy)
        return starts[-1]

    monkeypatch.setattr(model, "collage", collage)
    found = evaluate(model, folders, QUICK, lambda _: None)
    expected = sum(start is far for start in starts)
    assert 0 < expected < len(starts)
    assert found.figures["memorisation"]["nearer than their collages"] == expected
    assert not {gate.name: gate.holds for gate in found.gates}["nearer to training art than their collages, at most"]
    assert found.figures["distance"].keys() >= {"drawn", "collage", "real"}


def test_missing_training_data_is_told_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["evaluate", "--data", str(tmp_path / "nowhere")]) == 1
    assert capsys.readouterr().err.strip().endswith("run 't2i train fetch-data' first.")


def test_the_grid_is_forty_prompts_and_held_out_combinations_are_asked_for() -> None:
    grid = prompts.grid()
    assert len(grid) == len(set(grid)) == 40
    asked = prompts.composed()
    assert all(len(asked[kind]) >= 10 for kind in prompts.HELD_OUT)
    assert "a cat wearing a crown" in {one.prompt for one in asked["worn"]}
