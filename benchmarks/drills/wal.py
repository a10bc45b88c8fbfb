"""Power cuts: SQLite's write-ahead log is cut at random places, and what is left must be whole and a prefix.

Every commit is remembered as the rows it left. After a cut the database must be sound, hold exactly what one of the
commits left, and never less for a longer log; after no cut, all of it. Then the bot's own upgrade must open it.
"""

from __future__ import annotations

import random
import shutil
import sqlite3
import time
from pathlib import Path
from typing import Any

from benchmarks.drills.report import Outcome
from benchmarks.drills.stage import Stage
from benchmarks.gates import at_least, at_most
from bot.jobs.model import JobKind, NewJob
from bot.jobs.queue import JobQueue
from bot.prompt.options import JobOptions
from bot.storage.session import Database

Rows = tuple[tuple[Any, ...], ...]


async def wal(stage: Stage, rng: random.Random, *, cuts: int) -> Outcome:
    began = time.monotonic()
    original = stage.folder / "original"
    history = await _work(original, rng, commits=60)
    size = (original / "imagine.db-wal").stat().st_size
    places = sorted(rng.randrange(size) for _ in range(cuts - 1))
    unsound = strangers = backwards = reached = 0
    for number, place in enumerate((*places, size)):
        copy = stage.folder / f"cut-{number}"
        shutil.copytree(original, copy)
        _cut(copy / "imagine.db-wal", place, rng)
        sound, rows = _read(copy / "imagine.db")
        unsound += not sound
        if rows not in history:
            strangers += 1
        else:
            backwards += history.index(rows) < reached
            reached = max(reached, history.index(rows))
        await _upgrade(copy / "imagine.db")
        shutil.rmtree(copy)
    lost = len(history) - 1 - reached
    figures = {"cuts": cuts, "commits": len(history) - 1, "wal_bytes": size, "unsound": unsound, "no_prefix": strangers}
    figures |= {"backwards": backwards, "lost_without_cut": lost, "drill_seconds": round(time.monotonic() - began, 1)}
    limits = ("unsound", "no_prefix", "backwards", "lost_without_cut")
    return Outcome(
        figures, [*(at_most(name, figures[name], 0) for name in limits), at_least("commits", len(history) - 1, 50)]
    )


async def _work(folder: Path, rng: random.Random, *, commits: int) -> list[Rows]:
    """Jobs come, run and end; what the table held after every commit. The log is left as it was at the end."""
    live = folder.with_name("live")
    database = Database(f"sqlite+aiosqlite:///{live / 'imagine.db'}")
    await database.upgrade()
    queue = JobQueue(database)
    history = [_read(live / "imagine.db")[1]]
    for number in range(commits):
        job = await queue.claim() if rng.random() < 0.4 else None
        if job is None:
            await queue.submit(_job(number), cost=1.0)
        else:
            history.append(_read(live / "imagine.db")[1])
            await queue.fail(job, "It was not to be.")
        history.append(_read(live / "imagine.db")[1])
    shutil.copytree(live, folder)
    await database.close()
    return history


def _job(number: int) -> NewJob:
    return NewJob(
        interaction_id=number + 1,
        interaction_token="secret",  # noqa: S106 - nobody listens
        kind=JobKind.IMAGINE,
        options=JobOptions(prompt="x" * (7 * number % 900 + 1)),
        checkpoint="tiny",
        user_id=number % 5,
        channel_id=1,
        guild_id=None,
    )


def _cut(log: Path, place: int, rng: random.Random) -> None:
    """End the log at `place`; half of the time with rubbish behind, as a disk may leave it."""
    whole = log.read_bytes()
    rubbish = rng.randbytes(min(len(whole) - place, 5000)) if rng.random() < 0.5 else b""
    log.write_bytes(whole[:place] + rubbish)
    log.with_name("imagine.db-shm").unlink(missing_ok=True)


def _read(file: Path) -> tuple[bool, Rows]:
    with sqlite3.connect(file) as connection:
        sound = connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        rows = connection.execute("SELECT id, interaction_id, state, attempt, error FROM jobs ORDER BY id").fetchall()
    connection.close()
    return sound, tuple(rows)


async def _upgrade(file: Path) -> None:
    database = Database(f"sqlite+aiosqlite:///{file}")
    await database.upgrade()
    await JobQueue(database).recover()
    await database.close()
