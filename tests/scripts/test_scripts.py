"""The scripts of this folder, as `imagine-bot sandbox --run` plays them; `#>` says what the step above shows."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from tests.scripts.folder import build

HERE = Path(__file__).parent
SCRIPTS = ("adding_and_switching", "refusals", "racing", "verified", "held", "reported", "erased", "killed")
PATIENCE = 500.0


def expectations() -> list[tuple[str, list[str]]]:
    """The steps that report something, in order, and words of each report."""
    expected: list[tuple[str, list[str]]] = []
    for script in SCRIPTS:
        for line in (HERE / f"{script}.txt").read_text().splitlines():
            if line.startswith("#>"):
                expected[-1][1].append(line.removeprefix("#>").strip())
            elif line and not line.startswith(("#", "as ", "in ", "begin ", "kill")):
                expected.append((line, []))
    return expected


async def test_every_script_shows_what_it_says(checkpoints_dir: Path, tmp_path: Path) -> None:
    folder = build(checkpoints_dir / "tiny", tmp_path / "checkpoints")
    settings = {
        "CHECKPOINTS_DIR": str(folder),
        "CHECKPOINT": "tiny",
        "PROGRESS_INTERVAL": "0.2",
    }
    env = {name: value for name, value in os.environ.items() if not name.startswith("IMAGINE_")}
    env |= {f"IMAGINE_{name}": value for name, value in settings.items()}
    env |= {"PYTHONPATH": str(HERE.parents[1]), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bot", "sandbox", "--json"),
        *(f"--run=@{HERE / script}.txt" for script in SCRIPTS),
        env=env,
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), PATIENCE)
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, err.decode()
    reports = [json.loads(line) for line in out.splitlines()]
    expected = expectations()
    assert [report["step"] for report in reports] == [step for step, _ in expected]
    for report, (step, words) in zip(reports, expected, strict=True):
        for said in words:
            assert said in report["content"], f"{step}: {report['content']}"
