"""`t2i checkpoints ...` from a terminal: what is printed and with which exit code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from t2i.cli import main

Saved = Callable[[str], Path]


@pytest.fixture
def folder(saved: Saved, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """A folder of checkpoints with one, added by the command."""
    folder = tmp_path / "checkpoints"
    assert main(["checkpoints", "add", str(saved("sd")), "--dir", str(folder), "--name", "mine"]) == 0
    assert capsys.readouterr().out == f"{folder / 'mine'}\n"
    return str(folder)


def test_list_shows_what_can_be_loaded_and_why_the_rest_cannot(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    (Path(folder) / "broken.safetensors").write_bytes(b"nothing")
    assert main(["checkpoints", "list", "--dir", folder]) == 0
    embedded, mine, broken = capsys.readouterr().out.splitlines()
    assert embedded.startswith("embedded")
    assert mine.split() == ["mine", "0.3", "M", "Stable", "Diffusion,", "64", "px."]
    assert broken.endswith("cannot be loaded: broken.safetensors is not a safetensors file.")


def test_info_prints_one_json_object(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["checkpoints", "info", "mine", "--dir", folder]) == 0
    info = json.loads(capsys.readouterr().out)
    assert (info["name"], info["family"], info["sizes"]) == ("mine", "sd", [64])


def test_verify_is_silent_about_nothing(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["checkpoints", "verify", "mine", "--dir", folder]) == 0
    assert capsys.readouterr().out == "mine: every file is as it should be\n"
    (Path(folder) / "mine" / "unet" / "config.json").write_text("{}")
    (Path(folder) / "mine" / "vae" / "config.json").unlink()
    assert main(["checkpoints", "verify", "mine", "--dir", folder]) == 1
    told = capsys.readouterr()
    assert sorted(told.out.splitlines()) == [
        "mine is damaged: unet/config.json is not the file that was saved.",
        "mine is incomplete: vae/config.json is missing.",
    ]
    assert told.err == "t2i: mine has 2 problems.\n"


def test_verify_without_a_name_looks_at_everything(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    (Path(folder) / "renamed.safetensors").write_bytes(b"\x80\x02}q\x00X\x05\x00\x00\x00")
    assert main(["checkpoints", "verify", "--dir", folder]) == 1
    told = capsys.readouterr()
    assert [line.partition(":")[0] for line in told.out.splitlines()[:2]] == ["embedded", "mine"]
    assert "renamed.safetensors is a pickle" in told.out
    assert told.err == "t2i: The folder has 1 problem.\n"


def test_remove_deletes_what_add_added_and_nothing_else(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["checkpoints", "remove", "embedded", "--dir", folder]) == 1
    assert main(["checkpoints", "remove", "lost", "--dir", folder]) == 1
    assert main(["checkpoints", "remove", "mine", "--dir", folder]) == 0
    told = capsys.readouterr()
    assert told.out == "mine is deleted\n"
    assert told.err.splitlines() == [
        "t2i: The embedded checkpoint is a part of the program and stays.",
        f"t2i: There is no checkpoint 'lost' in {folder}.",
    ]
    assert list(Path(folder).iterdir()) == []


def test_convert_writes_a_folder(folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "half")
    assert main(["checkpoints", "convert", "mine", out, "--dtype", "float16", "--dir", folder]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    assert main(["checkpoints", "verify", out]) == 0


def test_what_cannot_be_added_is_told_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pickle = tmp_path / "model.ckpt"
    pickle.write_bytes(b"anything")
    assert main(["checkpoints", "add", str(pickle), "--dir", str(tmp_path / "checkpoints")]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("t2i: model.ckpt is a pickle")
    assert not (tmp_path / "checkpoints").exists()
