"""`python -m tests`: the whole suite in two processes, for most of it waits: for sockets, other processes, or the disk.

What talks to a bot, a browser or a database goes first and is shown as it runs; what only computes takes the rest of
the processors, at a lower priority, and is shown afterwards. Arguments go to both, such as `-k apple`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

import pytest

TALKING = ("tests/bot", "tests/browser", "tests/drills", "tests/scripts")
COMPUTING = ("tests/benchmarks", "tests/t2i")
NICENESS = 10


def main(arguments: list[str]) -> int:
    """The exit code is that of the first part that failed; a part in which nothing was to be run has not."""
    command = [sys.executable, "-m", "pytest", *arguments]
    with tempfile.TemporaryFile() as output:
        computing = subprocess.Popen(
            [*command, "-p", "no:cacheprovider", *COMPUTING],
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: os.nice(NICENESS),  # noqa: PLW1509  # there are no threads here
        )
        try:
            codes = [subprocess.run([*command, *TALKING], check=False).returncode, computing.wait()]
        finally:
            computing.kill()
        output.seek(0)
        sys.stdout.write(output.read().decode(errors="replace"))
    empty = pytest.ExitCode.NO_TESTS_COLLECTED
    failed = [code for code in codes if code not in (0, empty)]
    return failed[0] if failed else min(codes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
