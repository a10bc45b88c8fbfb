"""What a kill, a crash or a restart leaves behind: one message per job, finished, and nothing posted twice."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import dataclass, field

import pytest
import pytest_asyncio

from tests.bot.e2e.conftest import Studio
from tests.bot.e2e.studio import Bot, Json, Member, Settled, is_private, labels, text_of

pytestmark = pytest.mark.asyncio(loop_scope="session")


@dataclass
class Stage:
    """The studio, with an eye on what is new since the test began."""

    bot: Bot
    alice: Member
    earlier: set[str] = field(default_factory=set)

    async def messages(self) -> list[Json]:
        """Public messages of this test."""
        found = await self.alice.messages()
        return [message for message in found if message["id"] not in self.earlier and not is_private(message)]

    async def begin(self) -> Json:
        """A drawing that is under way."""
        asked = await self.alice.types("imagine", prompt="a red apple", seed=7, steps=100)
        return await self.alice.progress_of(asked)

    async def result_of(self, drawing: Json) -> Settled:
        """The result, which must be in the message that was acknowledged, with no other beside it."""
        result = await self.alice.settles(drawing)
        assert [message["id"] for message in await self.messages()] == [drawing["id"]]
        assert len(result.pictures) == 4
        assert "seed 7" in result.text
        return result


@pytest_asyncio.fixture(loop_scope="session")
async def stage(studio: Studio) -> AsyncIterator[Stage]:
    stage = Stage(studio.bot, studio.alice)
    stage.earlier = {message["id"] for message in await studio.alice.messages()}
    yield stage
    if stage.bot.process.returncode is not None:
        await stage.bot.start()
        await stage.alice.online()


async def test_an_engine_killed_in_the_middle_is_replaced_and_draws_again(stage: Stage) -> None:
    drawing = await stage.begin()

    stage.bot.kill_engine()

    await stage.result_of(drawing)


async def test_a_bot_killed_in_the_middle_finishes_after_its_restart_and_its_buttons_work(stage: Stage) -> None:
    drawing = await stage.begin()

    await stage.bot.kill()
    await stage.bot.start()
    result = await stage.result_of(drawing)

    upscaled = await stage.alice.settles(await stage.alice.presses(result.message, "U1"))
    assert labels(upscaled.message) == ["Info", "Report", "Delete"]


async def test_a_stopping_bot_ends_what_it_draws_and_turns_newcomers_away(stage: Stage) -> None:
    drawing = await stage.begin()

    stage.bot.terminate()
    await stage.bot.says("Stopping")
    newcomer = await stage.alice.types("imagine", prompt="too late")

    assert is_private(newcomer)
    assert text_of(newcomer).startswith("The bot is restarting")
    await stage.result_of(drawing)
    assert await stage.bot.ended() == 0


async def test_a_bot_killed_while_jobs_wait_draws_them_all_once(stage: Stage) -> None:
    asked = [await stage.alice.types("imagine", prompt=f"number {n}", steps=30) for n in range(6)]

    await stage.bot.kill()
    await stage.bot.start()

    for message, number in zip(asked, range(6), strict=True):
        assert f"number {number}" in (await stage.alice.settles(message)).text
    assert [message["id"] for message in await stage.messages()] == [message["id"] for message in asked]


async def test_a_bot_killed_before_a_deferred_job_was_committed_still_draws_it_in_that_message(stage: Stage) -> None:
    with closing(sqlite3.connect(stage.bot.data_dir / "imagine.db", isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")  # so that the bot's commit has to wait
        thinking = await stage.alice.types("imagine", prompt="a red apple", seed=7)
        assert text_of(thinking) == ""
        await stage.bot.kill()
        database.execute("ROLLBACK")

    await stage.bot.start()

    await stage.result_of(thinking)
    assert list((stage.bot.data_dir / "promises").iterdir()) == []


async def test_what_was_promised_and_cannot_be_taken_in_any_more_is_taken_back_in_private(stage: Stage) -> None:
    with closing(sqlite3.connect(stage.bot.data_dir / "imagine.db", isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        thinking = await stage.alice.types("imagine", prompt="a red apple")
        await stage.bot.kill()
        # Somebody closed every queue meanwhile.
        database.execute("INSERT INTO closures VALUES (0, 'draining')")
        database.execute("COMMIT")

        await stage.bot.start()
        await stage.alice.loses(thinking)
        database.execute("DELETE FROM closures")

    (note,) = await stage.alice.until(
        lambda: [data for op, data in stage.alice.seen if op == "message_create" and "running empty" in text_of(data)]
    )
    assert is_private(note)
    await stage.alice.online()
    assert list((stage.bot.data_dir / "promises").iterdir()) == []
