"""How long a switch of checkpoints takes, and what is left of it in memory.

    python -m benchmarks.switches --json switches.json

Each switch is the whole transaction of the bot: every file checked, loaded, one picture drawn and judged, committed. It
is cold when the device has room for one checkpoint, so that each switch reads from disk (which the system has cached),
and warm when both are in memory. Memory is that of the engine's process, after the first switches have warmed it up.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import psutil

from benchmarks import gates
from benchmarks.drills import report
from bot.jobs.changes import ChangeKind, Changes
from bot.jobs.checkpoints import Checkpoints
from bot.jobs.measures import Measures
from bot.jobs.switching import Switching
from bot.storage.session import Database
from t2i.checkpoints import resolve
from t2i.engine.client import LocalEngine

NAMES = ("one", "two")
WARM_UP = 10
"""Switches until the engine has measured its device, and has every kernel and buffer that it keeps."""
GROWTH = 5.0
"""Percent."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.switches", description=__doc__)
    parser.add_argument("--checkpoint", default="embedded", help="a name or a folder; two copies of it take turns")
    parser.add_argument("--switches", type=int, default=20)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name in NAMES:
            shutil.copytree(resolve(options.checkpoint), folder / "checkpoints" / name)
        outcome = asyncio.run(measure(folder, options.switches))
    arguments = {"checkpoint": options.checkpoint, "switches": options.switches, "seed": 1}
    result = report.compose("switches", arguments, outcome, time.monotonic() - began)
    report.show(result)
    if options.json:
        report.write(result, options.json)
    return report.exit_code(result)


async def measure(folder: Path, switches: int) -> report.Outcome:
    figures: dict[str, float] = {}
    limits = []
    for kind, budget in (("cold", 1), ("warm", None)):
        seconds, before, after = await take_turns(folder, switches, budget)
        growth = 100 * (after - before) / before
        figures |= {
            f"{kind} switch, median seconds": round(statistics.median(seconds), 3),
            f"{kind} switch, longest seconds": round(max(seconds), 3),
            f"MB before {kind} switches": round(before / 1e6, 1),
            f"MB after {kind} switches": round(after / 1e6, 1),
            f"growth over {kind} switches, percent": round(growth, 2),
        }
        limits.append(gates.at_most(f"growth over {kind} switches, percent", growth, GROWTH))
    return report.Outcome(figures, limits)


async def take_turns(folder: Path, switches: int, device_budget: int | None) -> tuple[list[float], int, int]:
    """Seconds of each switch, and the engine's bytes of memory before the first and after the last."""
    engine = LocalEngine(checkpoints_dir=folder / "checkpoints", default=NAMES[0], device_budget=device_budget)
    database = Database(f"sqlite+aiosqlite:///{folder / 'imagine.db'}")
    await database.upgrade()
    changes = Changes(database)
    switching = Switching(
        engine=engine,
        checkpoints=Checkpoints(database),
        changes=changes,
        measures=Measures(database),
        default=NAMES[0],
    )
    await engine.start()
    try:
        await engine.wait_ready()
        worker = psutil.Process(engine.pid)
        seconds, before = [], 0
        for number in range(WARM_UP + switches):
            if number == WARM_UP:
                before = worker.memory_info().rss
            change = await changes.begin(
                ChangeKind.SWITCH,
                guild_id=1,
                user_id=1,
                channel_id=1,
                interaction_token="",
                checkpoint=NAMES[(number + 1) % 2],
            )
            began = time.monotonic()
            await switching.run(change, lambda standing: None)
            seconds.append(time.monotonic() - began)
        return seconds[WARM_UP:], before, worker.memory_info().rss
    finally:
        await engine.close()
        await database.close()


if __name__ == "__main__":
    sys.exit(main())
