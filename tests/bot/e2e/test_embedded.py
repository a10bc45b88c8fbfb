"""What a newcomer does first, with the checkpoint in the box: the command of the README, in processes of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

STEPS = ("/imagine prompt: a red apple seed: 7", "press V2", "press U3")


def test_imagine_vary_and_upscale_end_with_pictures_that_differ(tmp_path: Path) -> None:
    out = tmp_path / "out"
    steps = [word for step in STEPS for word in ("--run", step)]
    command = [sys.executable, "-m", "bot", "sandbox", *steps, "--out", str(out), "--json"]

    run = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)

    assert run.returncode == 0, run.stderr
    grid, variation, upscaled = map(json.loads, run.stdout.splitlines())
    assert len({report["message_id"] for report in (grid, variation, upscaled)}) == 3
    assert [len(report["attachments"]) for report in (grid, variation, upscaled)] == [4, 4, 1]
    assert grid["edits"] >= 4  # three that showed progress, one that showed the result
    pictures = [Image.open(report["attachments"][0]["path"]) for report in (grid, variation, upscaled)]
    assert len({picture.tobytes() for picture in pictures}) == 3
    assert upscaled["attachments"][0]["width"] == 256
    for picture in pictures:
        assert np.asarray(picture.convert("RGBA")).std() > 20
