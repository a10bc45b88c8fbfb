"""Telling moderators of cases and people of decisions, with a real client in the sandbox, through crashes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from bot.commands.casework import Casework
from bot.jobs.delivery import Rendered
from bot.jobs.model import StoredImage
from bot.jobs.queue import JobQueue
from bot.moderation.cases import CaseKind, Decision, open_case
from bot.moderation.docket import CaseFile
from bot.moderation.notices import Notices, owe
from bot.moderation.review import Verdict
from bot.sandbox.model import Channel, Message
from bot.sandbox.server import Sandbox
from bot.storage import tables
from bot.storage.images import ImageStore
from bot.views import cases
from tests.bot.databases import EITHER_DATABASE
from tests.bot.jobs.conftest import WatchedDatabase, new_job
from tests.bot.sandbox.conftest import Bot, connected, discord_points_home
from tests.bot.views.examples import picture

__all__ = ["discord_points_home"]  # autouse

MOD = 50


class Office:
    def __init__(self, sandbox: Sandbox, bot: Bot, database: WatchedDatabase, folder: Path) -> None:
        self.database = database
        self.images = ImageStore(folder)
        self.queue = JobQueue(database)
        self.notices = Notices(database)
        self.guild = sandbox.world.guild
        self.world = sandbox.world
        self.author = next(user for user in self.world.users.values() if user.username == "alice")
        self.room: Channel = next(c for c in self.guild.channels.values() if c.name == "mod-log")
        self.crashed = asyncio.Event()
        self._bot: Any = bot

    @asynccontextmanager
    async def open(self, **broken: str) -> AsyncIterator[Casework]:
        """The loop at work; methods of its parts named in `broken` never come to write what they should."""
        casework = Casework(self._bot, self.database, self.images)
        for part, method in broken.items():
            setattr(getattr(casework, part), method, self._crash)
        casework.start()
        try:
            yield casework
        finally:
            await casework.stop()

    async def _crash(self, *_: object) -> None:
        self.crashed.set()
        raise ConnectionResetError("the process ended here")

    async def told(self, casework: Casework) -> None:
        """Until there is nothing left to tell."""

        async def nothing() -> bool:
            return not await casework.docket.unshown() and not await self.notices.unsent()

        casework.wake()
        await self.database.until(nothing)

    async def review_in(self, channel: Channel) -> None:
        values = {"guild_id": self.guild.id, "review_channel_id": channel.id}
        async with self.database.write() as connection:
            await connection.execute(tables.moderation.insert().values(**values))

    async def case(self) -> int:
        """Of a held picture."""
        await self.queue.submit(new_job(user_id=self.author.id, guild_id=self.guild.id), cost=1.0)
        job = await self.queue.claim()
        assert job is not None
        png = self.images.put(picture())
        await self.queue.rendered(job, [StoredImage(job.id, 0, 7, 64, 64, png, png)], seconds=1.0)
        async with self.database.write() as connection:
            return await open_case(
                connection,
                CaseKind.PICTURE,
                guild_id=self.guild.id,
                user_id=self.author.id,
                reason="It looks explicit.",
                job_id=job.id,
                index=0,
                score=0.91,
            )

    def posted(self) -> Message:
        """The one message of the review channel."""
        (message,) = self.room.messages.values()
        return message

    def direct(self) -> list[Message]:
        return list(self.world.direct_channel(self.author).messages.values())

    def time_passes(self) -> None:
        """Discord forgets nonces after some minutes."""
        for channel in self.world.channels().values():
            for message in channel.messages.values():
                message.nonce = None


@pytest.fixture
async def office(database_url: str, tmp_path: Path) -> AsyncIterator[Office]:
    database = WatchedDatabase(database_url)
    await database.upgrade()
    async with Sandbox() as sandbox, connected(bot := Bot(), sandbox):
        yield Office(sandbox, bot, database, tmp_path / "images")
    await database.close()


@EITHER_DATABASE
async def test_a_case_is_posted_once_though_the_bot_dies_before_it_knows(office: Office) -> None:
    await office.review_in(office.room)
    case_id = await office.case()
    async with office.open(docket="posted"):
        await office.crashed.wait()
    office.time_passes()

    async with office.open() as casework:
        await office.told(casework)
        message = office.posted()
        assert "score 0.91" in str(message.components)
        assert f"case:remove:{case_id}" in str(message.components)
        assert message.mentions == ()

        await casework.review.decide(case_id, Verdict(Decision.REMOVE, MOD, "no"))
        await office.told(casework)

    message = office.posted()
    assert "Removed" in str(message.components)
    assert "case:remove" not in str(message.components)
    assert message.attachments == []


async def test_somebody_is_told_once_though_the_bot_dies_before_it_knows(office: Office) -> None:
    async with office.database.write() as connection:
        await owe(connection, office.author.id, "A moderator removed your picture.")
    async with office.open(_notices="sent"):
        await office.crashed.wait()
    office.time_passes()

    async with office.open() as casework:
        await office.told(casework)

    (message,) = office.direct()
    assert "A moderator removed your picture." in str(message.components)


async def test_a_notice_to_somebody_who_is_gone_is_given_up(office: Office) -> None:
    async with office.database.write() as connection:
        await owe(connection, 1, "Nobody reads this.")

    async with office.open() as casework:
        await office.told(casework)

    assert await office.notices.unsent() == ()


async def test_a_channel_that_is_gone_holds_up_no_other_and_a_case_that_cannot_be_shown_no_other_case(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    await office.review_in(office.room)
    gone, broken, sound = [await office.case() for _ in range(3)]
    async with office.database.write() as connection:
        elsewhere = tables.moderation.insert().values(guild_id=5, review_channel_id=5)
        await connection.execute(elsewhere)
        await connection.execute(update(tables.cases).where(tables.cases.c.id == gone).values(guild_id=5))
    show = cases.render

    def render(file: CaseFile, originals: list[bytes]) -> Rendered:
        if file.case.id == broken:
            raise ZeroDivisionError
        return show(file, originals)

    monkeypatch.setattr(cases, "render", render)
    async with office.open() as casework:

        async def only_they_are_left() -> bool:
            return [case.id for case, _ in await casework.docket.unshown()] == [gone, broken]

        await office.database.until(only_they_are_left)

    assert f"Case {sound}" in str(office.posted().components)


@EITHER_DATABASE
async def test_without_a_review_channel_a_case_waits_for_one_and_a_deleted_message_comes_back(office: Office) -> None:
    await office.case()
    decided = await office.case()
    async with office.open() as casework:
        await casework.review.decide(decided, Verdict(Decision.APPROVE, MOD))
        assert await casework.docket.unshown() == ()

        await office.review_in(office.room)
        await office.told(casework)
        message = office.posted()

        del office.room.messages[message.id]
        async with office.database.write() as connection:
            await connection.execute(update(tables.cases).values(shown_at=None, revision=9))
        await office.told(casework)

    assert office.posted().id != message.id
