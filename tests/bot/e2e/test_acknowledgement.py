"""The answer within 3 seconds: what was acknowledged is kept, what was not is not drawn, and nothing comes twice."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from tests.bot.e2e.conftest import Studio
from tests.bot.e2e.studio import Json, Refused, is_private, text_of

pytestmark = pytest.mark.asyncio(loop_scope="session")

CALLBACK = "POST /interactions/*/callback"


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_connection_lost_at_the_answer_still_leaves_one_message(studio: Studio, moment: str) -> None:
    before = len(await studio.alice.messages())
    studio.sandbox.faults.inject({"route": CALLBACK, "drop": moment})

    result = await studio.alice.draws(prompt=f"cut {moment} the effect", images=1)

    assert len(result.pictures) == 1
    assert len(await studio.alice.messages()) == before + 1


async def test_a_job_that_discord_did_not_acknowledge_is_not_drawn(studio: Studio) -> None:
    before = len(await studio.alice.messages())
    studio.sandbox.faults.inject({"route": CALLBACK, "status": 404, "code": 10062, "message": "Unknown interaction"})

    with pytest.raises(Refused, match="did not respond"):
        await studio.alice.types("imagine", prompt="too late", steps=200)

    assert studio.bot.jobs()[-1] == "cancelled"
    assert len(await studio.alice.messages()) == before


async def test_a_slow_commit_is_bridged_by_thinking_and_then_shown_in_that_message(studio: Studio) -> None:
    before = len(await studio.alice.messages())
    with closing(sqlite3.connect(studio.bot.data_dir / "imagine.db", isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")  # so that the bot's commit has to wait
        thinking = await studio.alice.types("imagine", prompt="a patient boat", images=1)
        database.execute("ROLLBACK")

    result = await studio.alice.settles(thinking)

    assert text_of(thinking) == ""
    assert len(result.pictures) == 1
    assert len(await studio.alice.messages()) == before + 1


async def test_a_refusal_after_thinking_is_still_private(studio: Studio) -> None:
    """The public "thinking" goes away instead of showing everyone what went wrong."""
    with closing(sqlite3.connect(studio.bot.data_dir / "imagine.db", isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        thinking = await studio.alice.types("imagine", prompt="never to be committed")
        await studio.alice.loses(thinking)
        database.execute("ROLLBACK")

    (note,) = await studio.alice.until(
        lambda: [d for op, d in studio.alice.seen if op == "message_create" and _blames_itself(d)]
    )
    assert is_private(note)


def _blames_itself(message: Json) -> bool:
    return "Something went wrong on my side" in text_of(message)
