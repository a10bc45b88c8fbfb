"""What a server's managers set, whom that lets moderate, and what the audit log tells of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bot.sandbox.model import Role
from bot.sandbox.permissions import Permission
from tests.bot.e2e.conftest import Studio
from tests.bot.e2e.studio import Json, Member, is_private, text_of

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.fixture
def helper_role(studio: Studio) -> Iterator[Role]:
    """The Moderator role without its permissions, which Bob wears."""
    guild = studio.sandbox.world.guild
    role = next(role for role in guild.roles.values() if role.name == "Moderator")
    permissions, role.permissions = role.permissions, Permission.NONE
    guild.members[int(studio.bob.id)].role_ids = (role.id,)
    yield role
    guild.members[int(studio.bob.id)].role_ids = ()
    role.permissions = permissions


async def attached(member: Member, message: Json) -> bytes:
    """The message's one file."""
    latest = await member.until(lambda: next((m for m in seen(member, message) if m["attachments"]), None))
    (attachment,) = latest["attachments"]
    return await member.download({"media": attachment})


def seen(member: Member, message: Json) -> list[Json]:
    return [data for op, data in member.seen if op.startswith("message_") and data["id"] == message["id"]]


async def becomes(member: Member, message: Json, words: str) -> str:
    """What the message says once it holds these words."""
    return await member.until(lambda: next((t for m in seen(member, message) if words in (t := text_of(m))), None))


async def test_managers_set_how_the_server_is_moderated_and_the_log_tells_who(studio: Studio) -> None:
    admin = studio.admin
    review = str(next(c.id for c in studio.sandbox.world.guild.channels.values() if c.name == "mod-log"))
    answer = await admin.types("moderation", "channel", channel=review)
    assert is_private(answer)
    assert f"**Review channel**: <#{review}>" in text_of(answer)
    public = str(next(c.id for c in studio.sandbox.world.guild.channels.values() if c.name == "gallery"))
    refused = await admin.types("moderation", "channel", channel=public)
    assert text_of(refused).startswith("Everybody sees that channel")

    await admin.types("moderation", "hide-after", reports=2)
    await admin.types("moderation", "retention", days=30)
    await admin.types("moderation", "thresholds", spoiler=0.2, hold=0.5, block=0.9)
    unordered = await admin.types("moderation", "thresholds", spoiler=0.5, hold=0.2, block=0.9)
    assert text_of(unordered).startswith("The scores must be from 0 to 1")
    assert text_of(await admin.types("moderation", "thresholds", spoiler=0.5)).startswith("Give all three scores")
    wrong = await admin.types("moderation", "accept-unjudged", words="whatever")
    assert text_of(wrong) == "Nothing was changed: it takes the words “I accept the risk”."
    await admin.types("moderation", "accept-unjudged", words="i accept the risk.")

    shown = text_of(await admin.types("moderation", "show"))
    assert f"<#{review}>" in shown
    assert "spoiler from 0.2, held from 0.5, not shown from 0.9" in shown
    assert "**Reports that hide a picture**: 2" in shown
    assert "are shown (“I accept the risk”)" in shown
    assert "for 30 days" in shown

    for setting in ("channel", "hide-after", "retention", "thresholds", "accept-unjudged"):
        shown = text_of(await admin.types("moderation", setting))
    assert "<#" not in shown
    assert shown.count("(the bot's own)") == 2

    found = await admin.types("audit", "search", act="settings.retention", person=admin.id, days=1)
    assert is_private(found)
    lines = [line for line in text_of(found).splitlines() if "settings.retention" in line]
    assert f"<@{admin.id}>" in lines[0]
    assert "→" in lines[0] and "30" in lines[0].split("→")[0]


async def test_the_log_is_handed_out_as_a_file_and_says_that_it_is_whole(studio: Studio) -> None:
    admin = studio.admin
    await studio.mod.types("queue", "pause")
    await studio.mod.types("queue", "resume")

    sheet = (await attached(admin, await admin.types("audit", "export", act="queue"))).decode().splitlines()
    assert sheet[0].startswith("id,at,guild_id,actor,act,subject,before,after,previous_hash,hash,actor_id")
    assert all(line.endswith(f",{studio.mod.id}") for line in sheet[-2:])
    assert ",queue.close,queue,," in sheet[-2]

    await admin.types("queue", "resume", everywhere=True)
    everywhere = text_of(await admin.types("audit", "search", everywhere=True, days=1))
    assert f"<@{admin.id}> · **queue.open** · queue" in everywhere
    assert f"<@{studio.mod.id}>" not in everywhere

    checked = await becomes(admin, await admin.types("audit", "verify"), "Every entry fits")
    newest = checked.split("`")[1]
    again = await becomes(admin, await admin.types("audit", "verify", hash=newest), "Every entry fits")
    assert "cut off" not in again
    assert "cut off" in await becomes(admin, await admin.types("audit", "verify", hash="0" * 64), "Every entry fits")


async def test_a_role_that_managers_named_moderates_until_they_take_that_back(
    studio: Studio, helper_role: Role
) -> None:
    everyone = await studio.admin.types("moderation", "role add", role=str(studio.sandbox.world.guild.id))
    assert text_of(everyone) == "That is everybody, and not everybody moderates."
    assert text_of(await studio.bob.types("queue", "all")).startswith("You need the permission Manage Messages")

    named = await studio.admin.types("moderation", "role add", role=str(helper_role.id))
    assert f"<@&{helper_role.id}>" in text_of(named)
    listed = await studio.bob.types("queue", "all")
    assert "This server's queue" in text_of(listed)
    drawn = await studio.alice.draws(prompt="for a helper to delete", images=1)
    await studio.bob.presses(drawn.message, "Delete")
    await studio.alice.loses(drawn.message)
    # It makes nobody a manager.
    assert (
        text_of(await studio.bob.types("checkpoint", "rollback")) == "You need the permission Manage Server for that."
    )

    await studio.admin.types("moderation", "role remove", role=str(helper_role.id))
    pressed = await studio.bob.presses(listed, "Refresh")
    assert pressed is not None
    assert text_of(pressed).startswith("You need the permission Manage Messages")
    found = text_of(await studio.admin.types("audit", "search", person=studio.bob.id))
    assert "job.delete" in found


async def test_terms_are_accepted_once_for_each_version_before_the_first_picture(studio: Studio) -> None:
    alice, bob = studio.alice, studio.bob
    await write_terms(studio.admin, "Be kind.")
    try:
        before = len(studio.bot.jobs())
        asked, of_bob = [await person.types("imagine", prompt="a boat", images=1) for person in (alice, bob)]
        assert is_private(asked)
        assert text_of(asked) == "This server asks you to accept its terms before you draw.\n\nBe kind."
        assert len(studio.bot.jobs()) == before
        assert await alice.presses(asked, "Accept") is None
        drawn = await alice.draws(prompt="a boat", images=1)
        assert drawn.pictures
        for button in ("V1", "Reroll"):  # no way around the terms
            refused = await bob.presses(drawn.message, button)
            assert refused is not None
            assert "accept its terms" in text_of(refused)

        await write_terms(studio.admin, "Be very kind.")
        newer = await bob.presses(of_bob, "Accept")  # the old ones
        assert newer is not None
        assert text_of(newer).endswith("Be very kind.")
        await bob.presses(newer, "Accept")
        assert (await bob.draws(prompt="a boat", images=1)).pictures
        assert is_private(await alice.types("imagine", prompt="a boat"))
    finally:
        await studio.admin.types("terms", "clear")
    assert (await alice.draws(prompt="a boat", images=1)).pictures


async def write_terms(admin: Member, terms: str) -> None:
    assert "hold from now on" in text_of(await admin.fills(await admin.begins("terms", "set"), terms))
