"""People's data through the sandbox: a copy of it, its end, what moderators purge, and what log files never hold."""

from __future__ import annotations

import io
import json
import zipfile

import pytest

from tests.bot.e2e.conftest import Studio
from tests.bot.e2e.studio import Json, Member, is_private, labels, text_of, walk
from tests.bot.e2e.test_moderating import attached, seen

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def messages_about(member: Member, prompt: str) -> int:
    return sum(prompt in text_of(message) for message in await member.messages())


async def test_somebody_gets_a_copy_of_their_data_and_has_it_erased(studio: Studio) -> None:
    alice, bob = studio.alice, studio.bob
    mine = [await alice.draws(prompt="lighthouse of alice", images=1) for _ in range(2)]
    theirs = await bob.draws(prompt="lighthouse of bob", images=1)

    sent = await alice.types("privacy", "export")
    assert is_private(sent)
    with zipfile.ZipFile(io.BytesIO(await attached(alice, sent))) as files:
        prompts = [job["options"]["prompt"] for job in json.loads(files.read("jobs.json"))]
        pictures = [name for name in files.namelist() if name.endswith(".png")]
    assert prompts.count("lighthouse of alice") == 2
    assert "lighthouse of bob" not in prompts
    assert len(pictures) >= 2

    kept = await alice.types("privacy", "erase")
    assert is_private(kept)
    await alice.presses(kept, "Keep them")
    assert await messages_about(alice, "lighthouse of alice") == 2

    asked = await alice.types("privacy", "erase")
    assert await alice.presses(asked, "Erase everything") is None
    for drawn in mine:
        await bob.loses(drawn.message)
    assert await messages_about(bob, "lighthouse of alice") == 0
    assert await messages_about(bob, "lighthouse of bob") == 1
    assert "V1" in labels(theirs.message)
    varied = await bob.presses(theirs.message, "V1")
    assert varied is not None
    assert (await bob.settles(varied)).pictures
    with zipfile.ZipFile(io.BytesIO(await attached(alice, await alice.types("privacy", "export")))) as files:
        assert json.loads(files.read("jobs.json")) == []


async def test_nobody_presses_the_button_of_somebody_else(studio: Studio) -> None:
    button = {"custom_id": f"data:erase:{studio.alice.id}"}
    forged = await studio.bob.types("privacy", "erase")
    message = studio.sandbox.world.find_message(int(forged["id"]))
    assert message is not None
    (yes,) = (c for c in walk({"components": message.components}) if c.get("label") == "Erase everything")
    yes |= button  # as if somebody had sent them another's
    answer = await studio.bob.act("component", message_id=forged["id"], **button)
    assert text_of(await studio.bob.answer(answer["interaction_id"])) == "Everybody decides about their own data."


async def test_moderators_purge_what_somebody_below_them_drew(studio: Studio) -> None:
    drawn = await studio.bob.draws(prompt="spam of bob", images=1)
    above = await studio.mod.types("purge", "user", user=studio.admin.id)
    assert text_of(above) == "That is the owner of this server."

    asked = await studio.mod.types("purge", "user", user=studio.bob.id)
    assert await studio.mod.presses(asked, "Delete them") is None
    await studio.bob.loses(drawn.message)
    assert await messages_about(studio.mod, "spam of bob") == 0
    found = text_of(await studio.admin.types("audit", "search", act="user.purge"))
    assert f"<@{studio.mod.id}> · **user.purge** · <@{studio.bob.id}>" in found


async def test_an_erasure_reaches_the_messages_of_cases(studio: Studio) -> None:
    review = next(c.id for c in studio.sandbox.world.guild.channels.values() if c.name == "mod-log")
    await studio.admin.types("moderation", "channel", channel=str(review))
    try:
        drawn = await studio.alice.draws(prompt="a windmill to report", images=1)
        await studio.bob.fills(await studio.bob.clicks(drawn.message, "Report"), "It is mine.")
        case = await studio.mod.until(lambda: about(studio.mod, "a windmill to report"))
        asked = await studio.alice.types("privacy", "erase")
        await studio.alice.presses(asked, "Erase everything")
        await studio.mod.until(lambda: "windmill" not in text_of(seen(studio.mod, case)[-1]))
        left = seen(studio.mod, case)[-1]
        assert not left["attachments"]
        assert "Approve" not in labels(left)
        assert studio.alice.id not in text_of(left)
    finally:
        await studio.admin.types("moderation", "channel")


def about(member: Member, words: str) -> Json | None:
    created = (data for op, data in member.seen if op == "message_create")
    return next((message for message in created if words in text_of(message) and labels(message)[0] == "Approve"), None)


async def test_the_statement_says_how_long_this_server_keeps_things(studio: Studio) -> None:
    await studio.admin.types("moderation", "retention", days=14)
    shown = await studio.bob.types("privacy", "statement")
    await studio.admin.types("moderation", "retention")
    assert is_private(shown)
    assert "deleted after 14 days" in text_of(shown)
    assert "deleted after 14" not in text_of(await studio.bob.types("privacy", "statement"))


async def test_log_files_hold_no_prompt(studio: Studio) -> None:
    drawn = await studio.alice.draws(prompt="zanzibar at dawn", negative="quagga", images=1)
    await studio.alice.settles(await studio.alice.presses(drawn.message, "V1"))
    await studio.alice.types("imagine", prompt="zanzibar hentai")
    assert any("INFO" in line for line in studio.bot.log)
    assert not [line for line in studio.bot.log if "zanzibar" in line or "quagga" in line]
