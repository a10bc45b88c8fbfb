"""imagine-bot as a process, with nothing in its environment but what a test gives it."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PATIENCE = 120.0


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


Cli = Callable[..., Awaitable[Ended]]


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    async def run(*arguments: str, **settings: str) -> Ended:
        env = {name: value for name, value in os.environ.items() if not name.startswith("IMAGINE_")}
        env |= {"PYTHONPATH": str(ROOT), "IMAGINE_DATA_DIR": str(tmp_path / "data"), "OMP_NUM_THREADS": "1"}
        env |= {f"IMAGINE_{name.upper()}": value for name, value in settings.items()}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bot", *arguments),
            env=env,
            cwd=tmp_path,  # where no .env of a developer lies
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            out, err = await asyncio.wait_for(process.communicate(), PATIENCE)
        finally:
            if process.returncode is None:
                process.kill()
        assert process.returncode is not None
        return Ended(process.returncode, out.decode(), err.decode())

    return run
