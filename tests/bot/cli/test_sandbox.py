"""imagine-bot sandbox: the page, and the same without a browser."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import aiohttp
from PIL import Image

from tests.bot.cli.conftest import PATIENCE, ROOT, Cli

APPLE = "/imagine prompt: a red apple seed: 7 steps: 40"


async def test_a_script_draws_varies_and_upscales(cli: Cli, checkpoints_dir: Path, tmp_path: Path) -> None:
    steps = ("--run", APPLE, "--run", "press V2", "--run", "press U3")

    ended = await cli(
        *("sandbox", *steps, "--out", "pictures", "--json"),
        checkpoints_dir=str(checkpoints_dir),
        checkpoint="tiny",
        progress_interval="0.2",
    )

    assert ended.code == 0, ended.err
    grid, variation, upscaled = map(json.loads, ended.out.splitlines())
    assert grid["edits"] >= 3
    assert [len(report["attachments"]) for report in (grid, variation, upscaled)] == [4, 4, 1]
    saved = [tmp_path / report["attachments"][0]["path"] for report in (grid, variation, upscaled)]
    assert len({Image.open(path).tobytes() for path in saved}) == 3


async def test_a_step_that_fails_ends_the_script_with_a_sentence(cli: Cli) -> None:
    ended = await cli("sandbox", "--run", "press V2", "--json")

    assert ended.code == 1
    assert ended.out == ""
    assert "Step 1 (press V2) failed" in ended.err
    assert "Traceback" not in ended.err


async def test_the_page_is_served_until_somebody_ends_it(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bot", "sandbox", "--port", "0", "--data-dir", "data"),
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        line = (await asyncio.wait_for(process.stdout.readline(), PATIENCE)).decode()
        address = next(word for word in line.split() if word.startswith("http://127.0.0.1:"))
        async with aiohttp.ClientSession() as http, http.get(address) as page:
            assert page.status == 200
            assert "text/html" in page.headers["Content-Type"]
        process.terminate()
        assert await asyncio.wait_for(process.wait(), PATIENCE) == 0
    finally:
        if process.returncode is None:
            process.kill()
