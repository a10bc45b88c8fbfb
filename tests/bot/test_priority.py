"""What yields the processors to whoever answers people."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from bot.priority import NICENESS, yield_process, yielding_threads

MOST = 19
"""The kernel knows nothing nicer."""


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux weighs the threads of a process")
def test_threads_for_pictures_yield_and_the_others_do_not() -> None:
    before = niceness()
    with yielding_threads() as threads:
        assert threads.submit(niceness).result() == min(before + NICENESS, MOST)
    assert niceness() == before


def test_a_process_yields_however_nice_it_was() -> None:
    program = f"import os; os.nice(15); from {yield_process.__module__} import *; yield_process(); print(os.nice(0))"
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert int(printed) == MOST
