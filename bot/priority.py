"""Answers before pictures: what draws, judges and encodes yields the processors to whoever answers people."""

from __future__ import annotations

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

NICENESS = 10
"""A tenth of the share that others have, while the processors are all in use."""


def yield_process() -> None:
    """From now on this process comes after its parent, if both belong to one session: Linux weighs no others."""
    os.nice(NICENESS)


def yielding_threads() -> ThreadPoolExecutor:
    """For work on pictures and files; only Linux knows threads of one process apart."""
    return ThreadPoolExecutor(thread_name_prefix="pictures", initializer=_yield_thread)


def _yield_thread() -> None:
    if sys.platform == "linux":
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + NICENESS)
