"""The queue and the day's GPU time, as people and moderators see and steer them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.bot.e2e.conftest import Studio
from tests.bot.e2e.studio import Json, Member, is_private, labels, text_of

pytestmark = pytest.mark.asyncio(loop_scope="session")


def now(member: Member, message: Json) -> str:
    """What the message says to the member by now."""
    seen = [data for op, data in member.seen if op.startswith("message_") and data["id"] == message["id"]]
    return text_of(seen[-1])


@pytest_asyncio.fixture(loop_scope="session")
async def paused(studio: Studio) -> AsyncIterator[Studio]:
    """The studio while its moderator holds the queue."""
    answer = await studio.mod.types("queue", "pause")
    assert text_of(answer) == "This server's queue is paused: jobs keep their place until `/queue resume`."
    yield studio
    await studio.mod.types("queue", "resume")


async def test_a_paused_job_keeps_its_place_and_is_listed_cancelled_and_drawn(paused: Studio) -> None:
    alice = paused.alice
    first = await alice.types("imagine", prompt="first in line", images=1)
    second = await alice.types("imagine", prompt="second in line", images=1)
    assert "Paused by a moderator" in text_of(first)

    mine = await alice.types("queue", "mine")
    assert is_private(mine)
    assert "Your jobs\n2 jobs" in text_of(mine)
    assert labels(mine) == ["Cancel", "Cancel", "Refresh"]

    await alice.presses(mine, "Cancel")
    assert "Cancelled." in (await alice.settles(first)).text
    await alice.until(lambda: "first in line" not in now(alice, mine))

    assert text_of(await paused.mod.types("queue", "resume")) == "The queue is open again."
    assert len((await alice.settles(second)).pictures) == 1


async def test_a_waiting_job_says_when_it_will_be_done(studio: Studio) -> None:
    await studio.alice.draws(prompt="something measured", images=1)
    drawings = [await studio.alice.types("imagine", prompt="busy", images=1, steps=60) for _ in range(4)]

    assert "job ahead" in text_of(drawings[-1]) or "Next in line" in text_of(drawings[-1])
    assert "· done <t:" in text_of(drawings[-1])
    for drawing in drawings:
        await studio.alice.settles(drawing)


async def test_moderators_clear_the_queue_after_they_were_asked_again(paused: Studio) -> None:
    waiting = [await person.types("imagine", prompt="in vain") for person in (paused.alice, paused.bob)]
    listed = await paused.mod.types("queue", "all")
    assert "This server's queue\n2 jobs\n⏸️ Paused" in text_of(listed)
    assert labels(listed) == ["Cancel", "Cancel", "Refresh", "Resume", "Clear"]

    asked = await paused.mod.types("queue", "clear")
    assert labels(asked) == ["Clear", "Keep them"]
    assert "Cancel" in labels((await paused.alice.messages())[-1])
    await paused.mod.presses(asked, "Clear")

    for person, message in zip((paused.alice, paused.bob), waiting, strict=True):
        assert "Cancelled." in (await person.settles(message)).text
    await paused.mod.until(lambda: "Nothing is waiting" in now(paused.mod, asked))


async def test_a_draining_queue_takes_nothing_new(studio: Studio) -> None:
    listed = await studio.mod.types("queue", "all")
    await studio.mod.presses(listed, "Drain")
    try:
        answer = await studio.alice.types("imagine", prompt="too late")
    finally:
        await studio.mod.types("queue", "resume")

    assert is_private(answer)
    assert text_of(answer).startswith("The queue is running empty because a moderator closed it")


@pytest.mark.parametrize("subcommand", ["all", "pause", "drain", "resume", "clear"])
async def test_members_cannot_steer_the_queue(studio: Studio, subcommand: str) -> None:
    answer = await studio.bob.types("queue", subcommand)

    assert is_private(answer)
    assert text_of(answer) == "You need the permission Manage Messages or Manage Server for that."


async def test_only_the_owner_of_the_bot_pauses_every_server(studio: Studio) -> None:
    refused = await studio.mod.types("queue", "pause", everywhere=True)
    assert text_of(refused) == "Only the owner of the bot can do that for all servers."

    assert text_of(await studio.admin.types("queue", "pause", everywhere=True)).startswith("Every queue is paused")
    told = await studio.mod.types("queue", "resume")
    await studio.admin.types("queue", "resume", everywhere=True)
    assert "the bot's owner has closed all queues" in text_of(told)


async def test_a_button_asks_anew_who_presses_it(studio: Studio) -> None:
    listed = await studio.mod.types("queue", "all")
    member = studio.sandbox.world.guild.members[int(studio.mod.id)]
    roles, member.role_ids = member.role_ids, ()
    try:
        answer = await studio.mod.presses(listed, "Pause")
    finally:
        member.role_ids = roles

    assert answer is not None
    assert text_of(answer) == "You need the permission Manage Messages or Manage Server for that."
    assert (await studio.alice.draws(prompt="goes on", images=1)).pictures


async def test_somebody_past_their_quota_is_told_what_is_left_and_when_a_day_begins(studio: Studio) -> None:
    await studio.alice.draws(prompt="something measured", images=1)

    answer = await studio.mod.types("imagine", prompt="one too many")
    assert is_private(answer)
    assert text_of(answer).startswith("You have 0 of 0 s of GPU time left for today, and this would take about")
    assert "; a new day begins <t:" in text_of(answer)

    usage = await studio.mod.types("usage")
    assert is_private(usage)
    assert "GPU time today" in text_of(usage)
    assert "This server" not in text_of(usage)


async def test_managers_see_what_their_server_used(studio: Studio) -> None:
    await studio.alice.draws(prompt="counted", images=1)

    assert "no limit" in text_of(await studio.alice.types("usage"))
    assert f"<@{studio.alice.id}>" in text_of(await studio.admin.types("usage"))
