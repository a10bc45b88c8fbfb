"""Who may do what where: everybody's every command and button, in every channel, also when Discord hides nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from enum import IntEnum
from typing import Any

import pytest

from bot.sandbox.model import Overwrite
from bot.sandbox.permissions import Permission
from tests.bot.e2e.conftest import Studio
from tests.bot.e2e.studio import Json, Member, Refused, text_of

pytestmark = pytest.mark.asyncio(loop_scope="session")

DIRECT = "direct messages"
PLACES = ("imagine", "gallery", "nsfw-art", "mod-log", DIRECT)
REFUSALS = ("You need the permission", "Only ", "This works in servers only", "Several servers share")
"""How a sentence begins that turns somebody away for who they are, or for where they are."""


class Right(IntEnum):
    """What somebody is in the server; each may do what those before may."""

    MEMBER = 0
    MODERATOR = 1
    MANAGER = 2


PEOPLE = {"alice": Right.MEMBER, "bob": Right.MEMBER, "mod": Right.MODERATOR, "admin": Right.MANAGER}

# Options are such that whoever may do it changes nothing by it.
COMMANDS: dict[tuple[str, str | None], tuple[Right, dict[str, Any]]] = {
    ("checkpoint", "list"): (Right.MEMBER, {}),
    ("queue", "mine"): (Right.MEMBER, {}),
    ("privacy", "statement"): (Right.MEMBER, {}),
    ("terms", "show"): (Right.MEMBER, {}),
    ("queue", "all"): (Right.MODERATOR, {}),
    ("queue", "clear"): (Right.MODERATOR, {}),
    ("queue", "resume"): (Right.MODERATOR, {}),
    ("review", "list"): (Right.MODERATOR, {}),
    ("unrestrict", None): (Right.MODERATOR, {"user": "bot"}),
    ("restrict", None): (Right.MODERATOR, {"user": "bot", "reason": "none"}),
    ("purge", "user"): (Right.MODERATOR, {"user": "bot"}),
    ("moderation", "show"): (Right.MANAGER, {}),
    ("moderation", "channel"): (Right.MANAGER, {}),
    ("moderation", "retention"): (Right.MANAGER, {}),
    ("moderation", "thresholds"): (Right.MANAGER, {}),
    ("moderation", "hide-after"): (Right.MANAGER, {}),
    ("moderation", "accept-unjudged"): (Right.MANAGER, {}),
    ("moderation", "role remove"): (Right.MANAGER, {"role": "Admin"}),
    ("audit", "search"): (Right.MANAGER, {}),
    ("audit", "export"): (Right.MANAGER, {}),
    ("audit", "verify"): (Right.MANAGER, {}),
    ("terms", "clear"): (Right.MANAGER, {}),
    ("rules", "list"): (Right.MANAGER, {}),
    ("rules", "test"): (Right.MANAGER, {"prompt": "a red apple"}),
    ("rules", "add"): (Right.MANAGER, {"pattern": "(", "kind": "regex", "action": "warn"}),
    ("rules", "remove"): (Right.MANAGER, {"rule": 999999}),
    ("checkpoint", "rollback"): (Right.MANAGER, {}),
    ("checkpoint", "remove"): (Right.MANAGER, {"name": "tiny"}),
    ("checkpoint", "allow"): (Right.MANAGER, {"name": "everything"}),
    ("lora", "remove"): (Right.MANAGER, {"name": "none"}),
}
IN_DIRECT_MESSAGES = {("queue", "mine"), ("privacy", "statement")}
EVERYWHERE = {
    ("queue", "mine"),
    ("queue", "all"),
    ("privacy", "statement"),
    ("moderation", "show"),
    ("audit", "search"),
}
"""Tried in every place; the others only in #imagine."""


@pytest.fixture
def nothing_hidden(studio: Studio) -> Iterator[None]:
    """A server whose settings show every command to everybody: only the bot's own checks are left."""
    hidden = [(command, command["default_member_permissions"]) for command in studio.sandbox.commands.listed(None)]
    for command, _ in hidden:
        command["default_member_permissions"] = None
    yield
    for command, permissions in hidden:
        command["default_member_permissions"] = permissions


def resolved(studio: Studio, options: dict[str, Any]) -> dict[str, Any]:
    guild = studio.sandbox.world.guild
    ids = {"bot": studio.sandbox.world.bot.id} | {role.name: role.id for role in guild.roles.values()}
    return {name: str(ids.get(value, value)) for name, value in options.items()}


async def verdict(studio: Studio, name: str, command: tuple[str, str | None], place: str) -> str:
    """`may`, `may not`, or `not offered` by Discord itself."""
    member: Member = getattr(studio, name)
    _, options = COMMANDS[command]
    try:
        interaction = await begins(studio, member, command, resolved(studio, options), place)
        answer = await member.answer(interaction)
    except Refused:
        return "not offered"
    said = text_of(answer)
    return "may not" if said.startswith(REFUSALS) else "may"


async def begins(
    studio: Studio, member: Member, command: tuple[str, str | None], options: dict[str, Any], place: str
) -> str:
    if place != DIRECT:
        return await member.begins(*command, at=place, **options)
    world = studio.sandbox.world
    channel = world.direct_channel(world.users[int(member.id)])
    body = {"command": command[0], "subcommand": command[1], "options": options, "channel_id": str(channel.id)}
    return str((await member.act("command", **body))["interaction_id"])


def expected(name: str, command: tuple[str, str | None], place: str) -> str:
    if place == DIRECT and command not in IN_DIRECT_MESSAGES:
        return "not offered" if command[0] != "queue" else "may not"
    if place == "mod-log" and PEOPLE[name] is Right.MEMBER:
        return "not offered"  # they do not see it
    return "may" if PEOPLE[name] >= COMMANDS[command][0] else "may not"


@pytest.mark.usefixtures("nothing_hidden")
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: "-".join(filter(None, command)).replace(" ", "-"))
async def test_a_command_is_for_those_whom_it_is_meant_for(studio: Studio, command: tuple[str, str | None]) -> None:
    places = PLACES if command in EVERYWHERE else ("imagine",)
    cells = [(name, place) for name in PEOPLE for place in places]

    found = await asyncio.gather(*(verdict(studio, name, command, place) for name, place in cells))

    assert dict(zip(cells, found, strict=True)) == {
        (name, place): expected(name, command, place) for name, place in cells
    }


async def test_discord_hides_from_members_what_is_not_for_them(studio: Studio) -> None:
    for command in (("moderation", "show"), ("audit", "search"), ("purge", "user")):
        assert await verdict(studio, "bob", command, "imagine") == "not offered"
    assert await verdict(studio, "mod", ("purge", "user"), "imagine") == "may"
    assert await verdict(studio, "mod", ("audit", "search"), "imagine") == "not offered"


async def test_buttons_of_anothers_job_are_for_its_author_and_moderators(studio: Studio) -> None:
    drawn = await studio.alice.draws(prompt="a cup", images=1)

    async def deleted(member: Member) -> bool:
        answer = await member.presses(drawn.message, "Delete")
        assert answer is None or text_of(answer).startswith(f"Only <@{studio.alice.id}> and moderators")
        return answer is None

    assert not await deleted(studio.bob)
    assert await deleted(studio.mod)
    await studio.alice.loses(drawn.message)
    found = text_of(await studio.admin.types("audit", "search", act="job.delete", person=studio.mod.id))
    assert f"<@{studio.mod.id}> · **job.delete**" in found
    own = await studio.alice.draws(prompt="a cup", images=1)
    assert await studio.alice.presses(own.message, "Delete") is None


async def test_a_permission_in_one_channel_moderates_that_channel_only(studio: Studio) -> None:
    channels = studio.sandbox.world.guild.channels.values()
    gallery = next(channel for channel in channels if channel.name == "gallery")
    bob = int(studio.bob.id)
    gallery.overwrites[bob] = Overwrite(bob, is_role=False, allow=Permission.MANAGE_MESSAGES)
    try:
        assert await verdict(studio, "bob", ("queue", "all"), "gallery") == "may"
        assert await verdict(studio, "bob", ("queue", "all"), "imagine") == "may not"
        here = await studio.alice.settles(await drawn_in(studio, "gallery"))
        there = await studio.alice.settles(await drawn_in(studio, "imagine"))
        assert await studio.bob.presses(here.message, "Delete") is None
        refused = await studio.bob.presses(there.message, "Delete")
    finally:
        del gallery.overwrites[bob]
    assert refused is not None
    assert text_of(refused).startswith("Only ")


async def drawn_in(studio: Studio, place: str) -> Json:
    return await studio.alice.types("imagine", at=place, prompt="a cup", images=1)
