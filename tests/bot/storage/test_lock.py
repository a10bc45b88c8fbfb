"""Two bots never share a data folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bot.errors import AlreadyRunning
from bot.storage.lock import exclusive

HOLD = """
import sys
from pathlib import Path
from bot.storage.lock import exclusive
with exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_instance_is_refused_with_a_sentence_that_names_the_first(tmp_path: Path) -> None:
    with exclusive(tmp_path / "data"), pytest.raises(AlreadyRunning) as refused, exclusive(tmp_path / "data"):
        pass
    assert f"process {os.getpid()}" in str(refused.value)
    assert str(tmp_path / "data") in str(refused.value)


def test_the_folder_is_free_again_afterwards(tmp_path: Path) -> None:
    for _ in range(2):
        with exclusive(tmp_path):
            pass


def test_other_folders_are_not_concerned(tmp_path: Path) -> None:
    with exclusive(tmp_path / "one"), exclusive(tmp_path / "two"):
        pass


def test_a_killed_holder_leaves_the_folder_free(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdin is not None and holder.stdout is not None
    with holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(AlreadyRunning, match=f"process {holder.pid}"), exclusive(tmp_path):
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait(10)
        with exclusive(tmp_path):
            pass
