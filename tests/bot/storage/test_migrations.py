"""Databases of earlier versions go on, on SQLite and PostgreSQL alike."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, inspect, text

from bot.jobs.model import Job, JobKind, JobState, NewJob, StoredImage
from bot.jobs.queue import JobQueue
from bot.jobs.quota import Policy, Quotas
from bot.prompt.options import JobOptions
from bot.storage.session import Database
from tests.bot.databases import PostgresServer

FIRST = "0001"
STATES = tuple(state for state in JobState if state is not JobState.HELD)
"""Those of the first version."""
EACH = 4
"""Jobs in every state."""


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database without any table."""
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path / 'imagine.db'}"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.new_database()


@pytest.fixture
async def database(empty_url: str) -> AsyncIterator[Database]:
    database = Database(empty_url)
    yield database
    await database.close()


async def migrate(database: Database, revision: str) -> None:
    def run(connection: Connection) -> None:
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parents[3] / "migrations"))
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = connection
        (command.downgrade if revision == "base" else command.upgrade)(config, revision)

    async with database.altering() as connection:
        await connection.run_sync(run)


async def fill(database: Database) -> None:
    """Jobs of two people in every state, as the first version of the bot wrote them."""
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    job = text(
        "INSERT INTO jobs (interaction_id, interaction_token, kind, state, attempt, crashes, options, checkpoint, "
        "seed, cost, tag, user_id, channel_id, guild_id, message_id, created_at, started_at, finished_at, shown_at, "
        "error, seconds) VALUES (:number, :token, 'imagine', :state, :attempt, 0, :options, 'embedded', :number, "
        "0.5, :tag, :user_id, 500, 900, :number, :at, :started, :finished, :shown, :error, :seconds)"
    )
    image = text(
        'INSERT INTO images (job_id, "index", seed, width, height, sha256, latents_sha256) '
        "VALUES (:job_id, 0, 1, 64, 64, :sha256, :sha256)"
    )
    async with database.write() as connection:
        for user_id in (1, 2):
            await connection.execute(text("INSERT INTO users (id, weight, tag) VALUES (:id, 1, 9)"), {"id": user_id})
        await connection.execute(text("INSERT INTO guilds (id, checkpoint) VALUES (900, 'embedded')"))
        for number, state in enumerate(STATES * EACH, 1):
            begun, ended = state is not JobState.QUEUED, state not in (JobState.QUEUED, JobState.RUNNING)
            row = {
                "number": number,
                "token": "" if state.settled else f"secret-{number}",
                "state": state.value,
                "attempt": int(begun),
                "options": '{"prompt":"a red apple","images":1}',
                "tag": number / 10,
                "user_id": 1 + number % 2,
                "at": moment,
                "started": moment if begun else None,
                "finished": moment if ended else None,
                "shown": moment if state.settled else None,
                "error": "No." if state is JobState.FAILED else None,
                "seconds": 2.0 if state in (JobState.DONE, JobState.RENDERED) else None,
            }
            if database.is_sqlite:
                row |= {name: value and str(value) for name, value in row.items() if isinstance(value, datetime)}
            await connection.execute(job, row)
            if row["seconds"]:
                await connection.execute(image, {"job_id": number, "sha256": f"{number:064x}"})


async def finish(queue: JobQueue, job: Job) -> None:
    image = StoredImage(job.id, 0, job.seed, 64, 64, "a" * 64, "b" * 64)
    assert await queue.rendered(job, [image], seconds=1.5)


async def test_a_database_of_the_first_version_full_of_jobs_upgrades_and_finishes_them_all(database: Database) -> None:
    await migrate(database, FIRST)
    await fill(database)
    await database.upgrade()

    queue = JobQueue(database)
    before = [await queue.get(number) for number in range(1, len(STATES) * EACH + 1)]
    assert [job.state for job in before] == list(STATES * EACH)
    assert await queue.recover() == EACH
    new = NewJob(99, "secret", JobKind.IMAGINE, JobOptions(prompt="new"), "embedded", 3, 500, 900)
    newcomer = await queue.submit(new, cost=0.5)
    assert newcomer.id == len(before) + 1
    assert (await queue.look(newcomer.id)).done_at is not None
    drawn = []
    while job := await queue.claim(loaded=("embedded",)):
        drawn.append(job.id)
        await finish(queue, job)
    unfinished = {job.id for job in before if job.state in (JobState.QUEUED, JobState.RUNNING)}
    assert sorted(drawn) == sorted(unfinished | {newcomer.id})
    for job_id in await queue.unshown():
        assert await queue.shown(await queue.get(job_id))

    for job in before:
        after = await queue.get(job.id)
        if job.state.settled:
            assert after == job
        else:
            assert (after.state, after.seed, len(await queue.images(job.id))) == (JobState.DONE, job.seed, 1)
    assert (await Quotas(database, Policy()).of_guild(900)).used == 1.5  # earlier jobs are charged to nobody


async def test_every_migration_goes_down_and_up_again(database: Database) -> None:
    await database.upgrade()
    async with database.altering() as connection:
        upgraded = await connection.run_sync(lambda sync: set(inspect(sync).get_table_names()))
    await migrate(database, "base")
    async with database.altering() as connection:
        assert await connection.run_sync(lambda sync: inspect(sync).get_table_names()) == ["alembic_version"]
    await database.upgrade()
    async with database.altering() as connection:
        assert await connection.run_sync(lambda sync: set(inspect(sync).get_table_names())) == upgraded
