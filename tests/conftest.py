"""What every test may need: a tiny untrained checkpoint, built once a run, and a process to send signals to."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from hypothesis import settings

# What judges a change must judge the next one alike; people's own runs go on looking for new cases.
settings.register_profile("ci", derandomize=True, deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "default")

# Idle OpenMP threads that spin starve the processes beside them on small machines.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What engines measure of this machine while it runs tests is nothing to remember."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI a test may be skipped only for want of a GPU: a missing tool there would hide what it was to prove."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if not os.environ.get("CI") or reporter is None:
        return
    unexpected = [report for report in reporter.stats.get("skipped", []) if "cuda" not in report.keywords]
    if unexpected and session.exitstatus == pytest.ExitCode.OK:
        reporter.write_line(f"{len(unexpected)} tests were skipped, which CI does not allow.", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def checkpoints_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of checkpoints that holds one named "tiny": 16 px pictures, 64 px upsampled, 8 steps by default.

    Built in a process of its own, so that tests of the bot never import torch themselves.
    """
    folder = tmp_path_factory.mktemp("checkpoints")
    program = f"from pathlib import Path; from t2i.checkpoints import tiny; tiny.build(Path({str(folder / 'tiny')!r}))"
    subprocess.run([sys.executable, "-c", program], check=True)
    return folder


@pytest.fixture(scope="session")
def tiny_checkpoint(checkpoints_dir: Path) -> Path:
    return checkpoints_dir / "tiny"


@pytest.fixture
def neighbour() -> Iterator[psutil.Process]:
    """A process that does nothing."""
    process = psutil.Popen(["sleep", "60"])
    yield process
    with suppress(psutil.NoSuchProcess):
        process.kill()
        process.wait()


async def until_it(process: psutil.Process, *, stopped: bool) -> None:
    """Until it is stopped, or is not; signals take a moment to arrive."""
    async with asyncio.timeout(10):
        while (process.status() == psutil.STATUS_STOPPED) is not stopped:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
