"""`python -m benchmarks.drills NAME`: break a bot in one way, and say what came of every job."""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.drills import report
from benchmarks.drills.crash import crash
from benchmarks.drills.databases import NoDatabase
from benchmarks.drills.report import Outcome
from benchmarks.drills.stage import stage


def main(arguments: list[str] | None = None) -> int:
    """The exit code is 0 only when every gate is ok."""
    options = vars(_parser().parse_args(arguments))
    drill, json_file, limit = options.pop("drill"), options.pop("json"), options.pop("limit")
    began = time.monotonic()
    try:
        outcome = asyncio.run(_bounded(drill, limit, options))
    except (NoDatabase, TimeoutError) as error:
        print(f"The drill {drill} came to no end: {error or f'{limit:g} s were not enough.'}", file=sys.stderr)
        return 2
    result = report.compose(drill, options, outcome, time.monotonic() - began)
    if json_file:
        report.write(result, json_file)
    report.show(result)
    return report.exit_code(result)


async def _bounded(drill: str, limit: float, options: dict[str, Any]) -> Outcome:
    async with asyncio.timeout(limit):
        return await DRILLS[drill](**options)


async def _crash(*, seed: int, database: str, jobs: int, kills: int) -> Outcome:
    async with stage(database) as place:
        return await crash(place, random.Random(seed), jobs=jobs, kills=kills)


DRILLS = {"crash": _crash}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drills", description=__doc__)
    drills = parser.add_subparsers(dest="drill", required=True)

    def drill(name: str, purpose: str, *, limit: float) -> argparse.ArgumentParser:
        found = drills.add_parser(name, help=purpose, description=purpose)
        found.add_argument("--seed", type=int, default=1)
        found.add_argument("--json", type=Path, metavar="FILE")
        found.add_argument("--limit", type=float, default=limit, help="seconds after which the drill gives up")
        return found

    one = drill("crash", "kill -9 of bot, engine and both at random moments", limit=3600)
    one.add_argument("--jobs", type=int, default=1000)
    one.add_argument("--kills", type=int, default=50)
    one.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    return parser


if __name__ == "__main__":
    sys.exit(main())
