"""`python -m benchmarks.claims`: how long the queue takes to hand out, admit and find a job among thousands."""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from sqlalchemy import insert

from benchmarks.drills import report
from benchmarks.drills.databases import NoDatabase, opened
from benchmarks.drills.report import Outcome
from benchmarks.gates import at_most
from bot.jobs.model import JobKind, NewJob
from bot.jobs.queue import JobQueue
from bot.prompt.options import JobOptions
from bot.storage import tables
from bot.storage.session import Database

T = TypeVar("T")

CLAIM_MS = 30.0
"""What half of the claims must stay under."""
ROUNDS = 300
CHECKPOINTS = ("embedded", "other")
OPTIONS = JobOptions(prompt="a red apple")


async def measure(url: str, chance: random.Random, queued: int, users: int) -> Outcome:
    database = Database(url)
    await database.upgrade()
    await fill(database, chance, queued, users)
    queue = JobQueue(database, queued_per_user=queued)
    claims: list[float] = []
    submits: list[float] = []
    looks: list[float] = []
    for number in range(ROUNDS):
        claimed = await timed(queue.claim(loaded=CHECKPOINTS[:1]), claims)
        if claimed is not None and number % 2:
            await queue.fail(claimed, "Made room for the next.")
        new = asked(queued + number, chance.randrange(users))
        submitted = await timed(queue.submit(new, cost=chance.choice((0.5, 1.0, 4.0))), submits)
        await timed(queue.look(submitted.id), looks)
    await database.close()

    figures = {}
    for name, times in (("claim", claims), ("submit", submits), ("place and time of a job", looks)):
        centiles = statistics.quantiles(times, n=100)
        for centile in (50, 95, 99):
            figures[f"{name} p{centile}, ms"] = round(centiles[centile - 1] * 1e3, 1)
    return Outcome(figures, [at_most("claim p50, ms", figures["claim p50, ms"], CLAIM_MS)])


async def fill(database: Database, chance: random.Random, queued: int, users: int) -> None:
    moment = datetime.now(UTC)
    rows = [
        {
            "interaction_id": number,
            "interaction_token": "",
            "kind": JobKind.IMAGINE,
            "state": "queued",
            "options": '{"prompt":"a red apple"}',
            "checkpoint": chance.choice(CHECKPOINTS),
            "seed": number,
            "size": 64,
            "steps": 30,
            "cost": 1.0,
            "tag": float(number // users),
            "user_id": number % users,
            "channel_id": 1,
            "guild_id": 2,
            "created_at": moment,
        }
        for number in range(queued)
    ]
    async with database.write() as connection:
        await connection.execute(insert(tables.users), [{"id": id, "tag": queued / users} for id in range(users)])
        await connection.execute(insert(tables.jobs), rows)


def asked(number: int, user_id: int) -> NewJob:
    checkpoint = CHECKPOINTS[number % len(CHECKPOINTS)]
    return NewJob(number, "", JobKind.IMAGINE, OPTIONS, checkpoint, user_id, channel_id=1, guild_id=2)


async def timed(work: Awaitable[T], times: list[float]) -> T:
    began = time.perf_counter()
    result = await work
    times.append(time.perf_counter() - began)
    return result


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.claims", description=__doc__)
    parser.add_argument("--queued", type=int, default=10_000)
    parser.add_argument("--users", type=int, default=200)
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = vars(parser.parse_args())
    json_file, began = options.pop("json"), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        try:
            with opened(options["database"], Path(folder)) as url:
                chance = random.Random(options["seed"])
                outcome = asyncio.run(measure(url, chance, options["queued"], options["users"]))
        except NoDatabase as error:
            print(error, file=sys.stderr)
            return 2
    result = report.compose("claims", options, outcome, time.monotonic() - began)
    if json_file:
        report.write(result, json_file)
    report.show(result)
    return report.exit_code(result)


if __name__ == "__main__":
    sys.exit(main())
