"""The machine's clock jumps: an hour back, then a day ahead.

A small library between the bot and the C library adds what a shared file says to the real-time clock; the monotonic
one stays as it is, as it does when somebody sets the time. It needs a C compiler and Linux.
"""

from __future__ import annotations

import mmap
import random
import struct
import subprocess
from pathlib import Path
from typing import Any

from benchmarks.drills.crowd import Crowd
from benchmarks.drills.report import Outcome
from benchmarks.drills.scene import disturbed, until_ended
from benchmarks.drills.stage import Stage
from benchmarks.gates import Gate

JUMPS = (-3600, 86400)

SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

static volatile long *offset;

__attribute__((constructor)) static void map_offset(void) {
    int file = open(getenv("DRILL_CLOCK"), O_RDONLY);
    offset = mmap(0, sizeof(long), PROT_READ, MAP_SHARED, file, 0);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, now);
    if (clock == CLOCK_REALTIME && offset && offset != MAP_FAILED) now->tv_sec += *offset;
    return result;
}

time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}

int gettimeofday(struct timeval *restrict out, void *restrict zone) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    out->tv_sec = now.tv_sec;
    out->tv_usec = now.tv_nsec / 1000;
    return 0;
}
"""


class Clock:
    """The offset of the bot's clock in seconds, shared with the library that adds it."""

    def __init__(self, folder: Path) -> None:
        """Raises FileNotFoundError without a C compiler."""
        source, self.shim, self._file = (folder / name for name in ("clock.c", "clock.so", "clock"))
        source.write_text(SHIM)
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", self.shim, source, "-ldl"], check=True)
        self._file.write_bytes(struct.pack("l", 0))

    @property
    def settings(self) -> dict[str, str]:
        """Environment of the process whose clock it is."""
        return {"LD_PRELOAD": str(self.shim), "DRILL_CLOCK": str(self._file)}

    def set(self, offset: int) -> None:
        with self._file.open("r+b") as file, mmap.mmap(file.fileno(), 0) as shared:
            shared[:] = struct.pack("l", offset)


async def clock(stage: Stage, rng: random.Random, *, jobs: int, pause: float) -> Outcome:
    hands = Clock(stage.folder)
    stage.settings |= hands.settings

    async def jump(crowd: Crowd) -> tuple[dict[str, Any], list[Gate]]:
        for offset in JUMPS:
            hands.set(offset)
            enough = crowd.ended + jobs / 4
            await until_ended(stage, crowd, enough, pause)
        return {"jumps": " ".join(f"{offset:+d}" for offset in JUMPS)}, []

    return await disturbed(stage, rng, jump, jobs=jobs)
