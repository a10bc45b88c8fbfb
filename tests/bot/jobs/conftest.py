"""A whole bot but for its commands: real database, real files, real HTTP; the engine and Discord play a script."""

from __future__ import annotations

import asyncio
import io
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import discord
import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.jobs.checkpoints import Checkpoints
from bot.jobs.closures import Closures
from bot.jobs.crowd import Crowd
from bot.jobs.delivery import Delivery, Encoding, Rendered
from bot.jobs.dispatcher import Dispatcher
from bot.jobs.judgement import Verdict
from bot.jobs.model import Job, JobKind, JobSnapshot, JobState, NewJob
from bot.jobs.progress import ProgressBoard
from bot.jobs.queue import JobQueue
from bot.jobs.quota import Policy
from bot.jobs.service import EVERYBODY_ALIKE, JobService
from bot.prompt.options import JobOptions
from bot.storage.images import ImageStore
from bot.storage.session import Database

from .discord_stand_in import DiscordStandIn
from .scripted_engine import EMBEDDED, ScriptedEngine

_interactions = itertools.count(1)


def new_job(prompt: str = "a red apple", *, user_id: int = 1, **changes: Any) -> NewJob:
    """A job as a slash command asks for it; options are told from the job's own fields by name."""
    fields = {name: changes.pop(name) for name in list(changes) if name in NewJob.__dataclass_fields__}
    number = next(_interactions)
    standard = {
        "interaction_id": number,
        "interaction_token": f"secret-{number}",
        "kind": JobKind.IMAGINE,
        "checkpoint": "embedded",
        "channel_id": 500,
        "guild_id": 900,
    }
    return NewJob(user_id=user_id, options=JobOptions(prompt=prompt, **changes), **standard | fields)


class WatchedDatabase(Database):
    """Tells when something was committed."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.written = 0
        """Transactions."""
        self._commits = asyncio.Condition()

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        async with super().write() as connection:
            yield connection
        self.written += 1
        async with self._commits:
            self._commits.notify_all()

    async def until(self, told: Callable[[], Awaitable[bool]]) -> None:
        """Wait until `told()` is true; looked at after every commit."""
        async with asyncio.timeout(10), self._commits:
            while not await told():
                await self._commits.wait()


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[WatchedDatabase]:
    database = WatchedDatabase(database_url)
    await database.upgrade()
    yield database
    await database.close()


@pytest.fixture
def queue(database: WatchedDatabase) -> JobQueue:
    return JobQueue(database)


@pytest.fixture
def closures(database: WatchedDatabase) -> Closures:
    return Closures(database)


@pytest.fixture
def images(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "images")


def render(snapshot: JobSnapshot, images: Mapping[int, bytes], encoding: Encoding) -> Rendered:
    """State, place or progress, and the pictures with their encoding written in front."""
    job = snapshot.job
    facts = [job.state.value]
    if snapshot.paused:
        facts.append("paused")
    elif snapshot.position is not None:
        facts.append(f"{snapshot.position} ahead")
    if snapshot.progress is not None:
        facts.append(f"step {snapshot.progress.step} of {snapshot.progress.steps}")
    if job.error is not None:
        facts.append(job.error)
    view = discord.ui.LayoutView()
    view.add_item(discord.ui.TextDisplay(", ".join(facts)))
    files = [
        discord.File(io.BytesIO(encoding.encode() + b" of " + data), filename=f"{index}.{encoding}")
        for index, data in images.items()
    ]
    return Rendered(view, files)


@pytest.fixture
async def stand_in(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[DiscordStandIn]:
    stand_in = DiscordStandIn()
    await stand_in.start()
    monkeypatch.setattr(discord.http.Route, "BASE", stand_in.base)
    yield stand_in
    await stand_in.close()


@pytest.fixture
async def client(stand_in: DiscordStandIn) -> AsyncIterator[discord.Client]:
    client = discord.Client(intents=discord.Intents(guilds=True))
    await client.login("token")
    yield client
    await client.close()


class ScriptedJudge:
    """Shows every picture, until a test decides otherwise."""

    def __init__(self) -> None:
        self.verdict: Callable[[bytes], Verdict] = lambda picture: Verdict()
        """May raise."""

    async def judge(self, job: Job, pictures: Sequence[bytes]) -> list[Verdict]:
        return [self.verdict(picture) for picture in pictures]

    async def screen(self, job: Job, preview: bytes) -> bytes:
        return b"screened " + preview


class Scene:
    """The parts of one bot, wired as the bot wires them."""

    def __init__(
        self, database: WatchedDatabase, images: ImageStore, client: discord.Client, stand_in: DiscordStandIn
    ) -> None:
        self.database = database
        self.images = images
        self.client = client
        self.stand_in = stand_in
        self.engine = ScriptedEngine()
        self.judge = ScriptedJudge()
        self.queue = JobQueue(database, queued_per_user=100)
        self.checkpoints = Checkpoints(database)
        self.board = ProgressBoard(self.queue, self.judge)
        self.crowd = Crowd()
        self.delivery = Delivery(
            client,
            self.queue,
            self.board,
            images,
            render,
            crowd=self.crowd,
            progress_interval=0.01,
            retry_delays=(0.01, 0.01, 0.01),
        )
        self.dispatcher = Dispatcher(
            engine=self.engine,
            queue=self.queue,
            checkpoints=self.checkpoints,
            images=images,
            board=self.board,
            delivery=self.delivery,
            judge=self.judge,
            crowd=self.crowd,
        )
        self.service = self.serve()

    def serve(self, policy: Policy = EVERYBODY_ALIKE) -> JobService:
        return JobService(
            queue=self.queue,
            checkpoints=self.checkpoints,
            images=self.images,
            board=self.board,
            delivery=self.delivery,
            dispatcher=self.dispatcher,
            closures=Closures(self.database),
            policy=policy,
        )

    async def imagine(self, prompt: str = "a red apple", **changes: Any) -> Job:
        """Admit a job and acknowledge it, as a command does."""
        new = new_job(prompt, **changes)
        job = await self.service.submit(new)
        message_id = 1000 + job.id
        self.stand_in.acknowledge(new.interaction_token, message_id)
        await self.service.attach_message(job.id, message_id)
        return await self.service.get(job.id)

    async def settled(self, job: Job) -> Job:
        """The job, once its message shows how it ended or is given up."""

        async def shown() -> bool:
            return (await self.queue.get(job.id)).shown_at is not None

        await self.database.until(shown)
        return await self.queue.get(job.id)

    async def in_state(self, job: Job, state: JobState) -> Job:
        async def reached() -> bool:
            return (await self.queue.get(job.id)).state is state

        await self.database.until(reached)
        return await self.queue.get(job.id)

    def texts(self, job: Job) -> list[str]:
        """What the job's message showed, edit by edit."""
        return [edit.text for edit in self.stand_in.edits if edit.message_id == 1000 + job.id]


@pytest.fixture
async def scene(
    database: WatchedDatabase, images: ImageStore, client: discord.Client, stand_in: DiscordStandIn
) -> AsyncIterator[Scene]:
    scene = Scene(database, images, client, stand_in)
    await scene.checkpoints.record([EMBEDDED])
    yield scene
    await scene.dispatcher.stop(grace=0)
