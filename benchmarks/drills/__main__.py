"""`python -m benchmarks.drills NAME`: break a bot in one way, and say what came of every job."""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.drills import report
from benchmarks.drills.clock import clock
from benchmarks.drills.crash import crash
from benchmarks.drills.databases import NoDatabase
from benchmarks.drills.diskfull import diskfull
from benchmarks.drills.drain import drain
from benchmarks.drills.locked import locked
from benchmarks.drills.outage import outage
from benchmarks.drills.report import Outcome
from benchmarks.drills.rush import ACK_P99_MS, LAG_MS, rush
from benchmarks.drills.soak import GROWTH, soak
from benchmarks.drills.stage import BotEnded, stage
from benchmarks.drills.wal import wal
from benchmarks.drills.zombie import zombie

Drill = Callable[..., Awaitable[Outcome]]
DRILLS: dict[str, Drill] = {
    drill.__name__: drill for drill in (crash, outage, diskfull, locked, clock, zombie, drain, wal, rush, soak)
}


def main(arguments: list[str] | None = None) -> int:
    """The exit code is 0 only when every gate is ok."""
    options = vars(_parser().parse_args(arguments))
    drill, json_file, limit = options.pop("drill"), options.pop("json"), options.pop("limit")
    began = time.monotonic()
    try:
        outcome = uvloop.run(_bounded(drill, limit, options))
    except (NoDatabase, BotEnded, TimeoutError) as error:
        print(f"The drill {drill} came to no end: {error or f'{limit:g} s were not enough.'}", file=sys.stderr)
        return 2
    options.pop("log")
    result = report.compose(drill, options, outcome, time.monotonic() - began)
    if json_file:
        report.write(result, json_file)
    report.show(result)
    return report.exit_code(result)


async def _bounded(drill: str, limit: float, options: dict[str, Any]) -> Outcome:
    task = asyncio.current_task()
    assert task is not None
    # Whoever ends a drill leaves no process and no folder behind.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with asyncio.timeout(limit):
        return await _staged(DRILLS[drill], **options)


async def _staged(drill: Drill, *, seed: int, log: Path | None, database: str = "sqlite", **options: Any) -> Outcome:
    async with stage(database) as place:
        try:
            return await drill(place, random.Random(seed), **options)
        finally:
            if log:
                await asyncio.to_thread(log.write_text, place.log())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drills", description=__doc__)
    drills = parser.add_subparsers(dest="drill", required=True)

    def drill(name: str, purpose: str, *, jobs: int | None = None, limit: float = 900) -> argparse.ArgumentParser:
        found = drills.add_parser(name, help=purpose, description=purpose)
        found.add_argument("--seed", type=int, default=1)
        found.add_argument("--json", type=Path, metavar="FILE")
        found.add_argument("--log", type=Path, metavar="FILE", help="keep what the bot logged")
        found.add_argument("--limit", type=float, default=limit, help="seconds after which the drill gives up")
        if jobs is not None:
            found.add_argument("--jobs", type=int, default=jobs)
        return found

    one = drill("crash", "kill -9 of bot, engine and both at random moments", jobs=1000, limit=3600)
    one.add_argument("--kills", type=int, default=50)
    one.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    one = drill("outage", "Discord fails, answers late and cuts connections", jobs=100)
    one.add_argument("--seconds", type=float, default=60.0, help="10 minutes of trouble in a tenth of the time")
    one.add_argument("--spells", type=int, default=20)
    one = drill("diskfull", "the disk takes nothing more for a while", jobs=60)
    one.add_argument("--times", type=int, default=3)
    one.add_argument("--full", type=float, default=8.0, help="seconds each time")
    one = drill("locked", "somebody else holds the database's write lock", jobs=60)
    one.add_argument("--held", type=float, default=10.0, help="seconds")
    one = drill("clock", "the clock jumps an hour back and a day ahead", jobs=40)
    one.add_argument("--pause", type=float, default=15.0, help="seconds between the jumps at most")
    one = drill("zombie", "the engine's process stops without ending", jobs=40)
    one.add_argument("--wake", type=float, help="seconds after which it goes on; by default it never does")
    one = drill("drain", "SIGTERM while jobs are drawn and wait", jobs=60)
    one.add_argument("--stops", type=int, default=3)
    one.add_argument(
        "--no-hung", dest="hung", action="store_false", help="leave out the stop with an engine that hangs"
    )
    one = drill("wal", "cuts of SQLite's write-ahead log at random places")
    one.add_argument("--cuts", type=int, default=200)
    one = drill("rush", "many people press in one moment while the engine is busy", jobs=100)
    one.add_argument("--users", type=int, default=200)
    one.add_argument("--waves", type=int, default=3)
    one.add_argument("--ack", type=float, default=ACK_P99_MS, help="milliseconds, of 99 of 100 answers at most")
    one.add_argument("--lag", type=float, default=LAG_MS, help="milliseconds that the bot may stand still")
    one.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    one = drill("soak", "jobs for minutes or days: does the memory grow?", jobs=20_000, limit=86400)
    one.add_argument("--minutes", type=float, default=10.0)
    one.add_argument("--growth", type=float, default=GROWTH, help="MB an hour that are still no leak")
    return parser


if __name__ == "__main__":
    sys.exit(main())
