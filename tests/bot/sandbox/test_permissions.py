from __future__ import annotations

import discord
import pytest
from discord import app_commands

from bot.sandbox.model import Channel, Overwrite
from bot.sandbox.permissions import ALL, Permission
from bot.sandbox.server import Sandbox
from bot.sandbox.world import World, seed
from tests.bot.sandbox.conftest import Bot, RestClient, connected
from tests.bot.sandbox.person import Person, Refused


def commands_for_some(sandbox: Sandbox) -> Bot:
    bot = Bot()

    @bot.tree.command(description="For everybody")
    async def draw(interaction: discord.Interaction) -> None:
        await interaction.response.send_message("drawn")

    @bot.tree.command(description="For those who manage the server")
    @app_commands.default_permissions(manage_guild=True)
    async def settle(interaction: discord.Interaction) -> None:
        await interaction.response.send_message("settled")

    @bot.tree.command(description="Moderators", guild=discord.Object(sandbox.world.guild.id))
    @app_commands.default_permissions(manage_messages=True)
    async def review(interaction: discord.Interaction) -> None:
        await interaction.response.send_message("reviewed")

    @bot.tree.command(description="Adults", nsfw=True)
    async def daring(interaction: discord.Interaction) -> None:
        await interaction.response.send_message("dared")

    return bot


async def offered(sandbox: Sandbox, username: str, channel: str) -> set[str]:
    async with Person(sandbox, username, channel) as person:
        state = await person.state()
    return set(next(entry["commands"] for entry in state["channels"] if entry["name"] == channel))


async def test_each_person_is_offered_what_they_may_use(sandbox: Sandbox) -> None:
    bot = commands_for_some(sandbox)
    async with connected(bot, sandbox):
        await bot.tree.sync(guild=discord.Object(sandbox.world.guild.id))
        assert await offered(sandbox, "bob", "imagine") == {"draw"}
        assert await offered(sandbox, "mod", "imagine") == {"draw", "review"}
        assert await offered(sandbox, "admin", "imagine") == {"draw", "settle", "review"}
        assert await offered(sandbox, "bob", "nsfw-art") == {"draw", "daring"}


async def test_a_command_that_is_not_offered_is_refused_when_sent_all_the_same(sandbox: Sandbox, bob: Person) -> None:
    async with connected(commands_for_some(sandbox), sandbox):
        with pytest.raises(Refused, match="You may not use /settle here"):
            await bob.types("settle")
        with pytest.raises(Refused, match="There is no command named /paint"):
            await bob.types("paint")
        async with Person(sandbox, "admin") as admin:
            await admin.types("settle")
            assert (await bob.sees("message_create"))["content"] == "settled"


async def test_members_see_neither_the_channel_nor_the_messages_of_moderators(
    sandbox: Sandbox, bob: Person, rest: RestClient
) -> None:
    async with Person(sandbox, "mod", "mod-log") as mod:
        assert "mod-log" not in [channel["name"] for channel in (await bob.state())["channels"]]
        await rest("POST", f"/channels/{mod.channel_id}/messages", {"content": "between us"})
        await rest("POST", f"/channels/{bob.channel_id}/messages", {"content": "for all"})
        assert (await mod.sees("message_create"))["content"] == "between us"
        assert (await bob.sees("message_create"))["content"] == "for all"
        with pytest.raises(Refused, match="no such channel"):
            await bob.does("message", channel_id=mod.channel_id, content="hello?")


@pytest.mark.parametrize(("denied", "code"), [(Permission.VIEW_CHANNEL, 50001), (Permission.SEND_MESSAGES, 50013)])
async def test_a_bot_without_permission_cannot_send(
    sandbox: Sandbox, rest: RestClient, bob: Person, denied: Permission, code: int
) -> None:
    sandbox.faults.inject({"world": "deny", "channel_id": bob.channel_id, "permissions": str(int(denied))})
    status, error = await rest("POST", f"/channels/{bob.channel_id}/messages", {"content": "x"})
    assert (status, error["code"]) == (403, code)
    sandbox.faults.inject({"world": "deny", "channel_id": bob.channel_id, "permissions": "0"})
    assert (await rest("POST", f"/channels/{bob.channel_id}/messages", {"content": "x"}))[0] == 200


async def test_only_its_own_messages_can_be_deleted_without_manage_messages(
    sandbox: Sandbox, rest: RestClient, bob: Person
) -> None:
    message_id = (await bob.does("message", content="mine"))["message_id"]
    status, error = await rest("DELETE", f"/channels/{bob.channel_id}/messages/{message_id}")
    assert (status, error["code"]) == (403, 50013)


# --- the sum of roles and overwrites --------------------------------------------------------------------------------


def member_id(world: World, username: str) -> int:
    return next(user.id for user in world.users.values() if user.username == username)


def channel_with(world: World, *overwrites: Overwrite) -> Channel:
    channel = next(iter(world.guild.channels.values()))
    channel.overwrites = {overwrite.id: overwrite for overwrite in overwrites}
    return channel


def role_id(world: World, name: str) -> int:
    return next(role.id for role in world.guild.roles.values() if role.name == name)


def test_owner_and_administrators_may_everything_whatever_the_channel_denies() -> None:
    world = seed()
    channel = channel_with(world, Overwrite(world.guild.id, is_role=True, deny=ALL))
    assert world.permissions(member_id(world, "admin"), channel) == ALL
    world.guild.owner_id = member_id(world, "bob")
    assert world.permissions(member_id(world, "bob"), channel) == ALL
    assert world.permissions(member_id(world, "admin"), channel) == ALL


def test_a_members_own_overwrite_beats_roles_and_a_role_beats_everyone() -> None:
    world = seed()
    mod = member_id(world, "mod")
    everyone = Overwrite(world.guild.id, is_role=True, deny=Permission.SEND_MESSAGES)
    role = Overwrite(role_id(world, "Moderator"), is_role=True, allow=Permission.SEND_MESSAGES)
    own = Overwrite(mod, is_role=False, deny=Permission.SEND_MESSAGES)
    assert Permission.SEND_MESSAGES not in world.permissions(mod, channel_with(world, everyone))
    assert Permission.SEND_MESSAGES in world.permissions(mod, channel_with(world, everyone, role))
    assert Permission.SEND_MESSAGES not in world.permissions(mod, channel_with(world, everyone, role, own))


def test_among_roles_an_allow_beats_a_deny() -> None:
    world = seed()
    bob = member_id(world, "bob")
    roles = [role_id(world, name) for name in ("Moderator", "Imagine Bot")]
    world.guild.members[bob].role_ids = tuple(roles)
    deny = Overwrite(roles[0], is_role=True, deny=Permission.ATTACH_FILES)
    allow = Overwrite(roles[1], is_role=True, allow=Permission.ATTACH_FILES)
    assert Permission.ATTACH_FILES in world.permissions(bob, channel_with(world, allow, deny))


def test_who_cannot_see_a_channel_can_do_nothing_there_and_who_cannot_send_cannot_attach() -> None:
    world = seed()
    bob = member_id(world, "bob")
    unseen = Overwrite(world.guild.id, is_role=True, deny=Permission.VIEW_CHANNEL)
    assert world.permissions(bob, channel_with(world, unseen)) == Permission.NONE
    silent = Overwrite(world.guild.id, is_role=True, deny=Permission.SEND_MESSAGES)
    granted = world.permissions(bob, channel_with(world, silent))
    assert Permission.ATTACH_FILES not in granted
    assert Permission.USE_APPLICATION_COMMANDS in granted


async def test_the_library_agrees_on_every_permission(sandbox: Sandbox) -> None:
    bot = Bot()
    world = sandbox.world
    async with connected(bot, sandbox):
        guild = bot.guilds[0]
        for channel in guild.text_channels:
            theirs = channel.permissions_for(guild.me).value
            assert theirs == int(world.permissions(world.bot.id, world.channel(channel.id))), channel.name
