"""What the drills do to processes, by itself."""

from __future__ import annotations

import sys

import psutil
import pytest

from benchmarks.drills.stage import kept_stopped
from tests.conftest import until_it

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="signals as Linux has them")


async def test_a_process_hangs_even_if_the_bot_sets_it_going_and_goes_on_afterwards(neighbour: psutil.Process) -> None:
    async with kept_stopped(neighbour):
        await until_it(neighbour, stopped=True)
        neighbour.resume()
        await until_it(neighbour, stopped=True)
    await until_it(neighbour, stopped=False)


async def test_a_process_may_be_killed_while_it_hangs(neighbour: psutil.Process) -> None:
    async with kept_stopped(neighbour):
        neighbour.kill()
        neighbour.wait()
