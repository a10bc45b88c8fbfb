"""`t2i` as a command, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from PIL import Image


def t2i(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "t2i.cli", *arguments], check=False, capture_output=True, text=True, timeout=120
    )


def test_generate_twice_gives_equal_files_and_a_full_report(tiny_checkpoint: Path, tmp_path: Path) -> None:
    files = [tmp_path / "one.png", tmp_path / "two.png"]
    runs = [
        t2i("generate", "a red apple", "--checkpoint", str(tiny_checkpoint), "--seed", "7", "--images", "4",
            "--out", str(file), "--json")
        for file in files
    ]  # fmt: skip
    assert [run.returncode for run in runs] == [0, 0], runs[0].stderr
    assert files[0].read_bytes() == files[1].read_bytes()
    report = json.loads(runs[0].stdout)
    assert report["seeds"] == [7, 8, 9, 10]
    assert report.keys() >= {"width", "height", "seed", "steps", "sampler", "checkpoint", "seconds"}
    assert Image.open(files[0]).size == (2 * report["width"], 2 * report["height"])
    assert "10/10" in runs[0].stderr  # the progress bar


def test_a_mistake_is_told_in_one_sentence_and_writes_nothing(tiny_checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.png"
    run = t2i("generate", "a cat", "--checkpoint", str(tiny_checkpoint), "--images", "9", "--out", str(out))
    assert run.returncode == 1
    assert run.stderr.strip() == "t2i: Images must be from 1 to 4, not 9."
    assert not out.exists()


def test_an_unknown_checkpoint_is_told_in_one_sentence(tmp_path: Path) -> None:
    run = t2i("generate", "a cat", "--checkpoint", "nowhere", "--out", str(tmp_path / "out.png"))
    assert run.returncode == 1
    assert "Traceback" not in run.stderr
    assert "There is no checkpoint 'nowhere'" in run.stderr
