from __future__ import annotations

import discord

from bot.sandbox.server import Sandbox
from tests.bot.sandbox.conftest import Bot, connected
from tests.bot.sandbox.person import Person


async def test_a_command_reaches_the_bot_and_its_answer_reaches_the_person(sandbox: Sandbox, bob: Person) -> None:
    bot = Bot()

    @bot.tree.command(description="Greets")
    async def hello(interaction: discord.Interaction, name: str) -> None:
        await interaction.response.send_message(f"Hello {name}, from {interaction.user.display_name}")

    async with connected(bot, sandbox):
        await bot.tree.sync()
        await bob.types("hello", name="world")
        message = await bob.sees("message_create")
    assert message["content"] == "Hello world, from Bob"
    assert message["interaction_metadata"]["user"]["username"] == "bob"
