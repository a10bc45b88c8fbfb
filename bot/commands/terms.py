"""/terms: what a server asks of people before they draw there, once for each version."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import discord
from discord import app_commands, ui
from discord.ext import commands

from bot.commands.errors import report
from bot.commands.managing import Managing
from bot.moderation.servers import Servers
from bot.views.terms import TermsButton, TermsPress

if TYPE_CHECKING:
    from bot.client import ImagineBot

COMMAND = "terms"
LONGEST = 1500
"""Characters; with the sentence around them they fit into one message of 2,000."""


class Terms:
    """Asked at every job."""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers

    async def require(self, interaction: discord.Interaction) -> None:
        """Raises TermsNotAccepted, which is reported with the terms and a button. Direct messages have none."""
        if interaction.guild_id is not None:
            await self._servers.require_terms_accepted(interaction.guild_id, interaction.user.id)


class TermsForm(ui.Modal, title="Terms of this server"):
    """The terms as they are, to be changed; they change once Discord sends the form."""

    def __init__(self, servers: Servers, managing: Managing, guild_id: int, terms: str | None) -> None:
        super().__init__()
        self._servers = servers
        self._managing = managing
        self._guild_id = guild_id
        self._terms: ui.TextInput[Any] = ui.TextInput(
            style=discord.TextStyle.paragraph, max_length=LONGEST, default=terms, required=True
        )
        self.add_item(ui.Label(text="Terms", description="Members accept them before they draw", component=self._terms))

    async def on_submit(self, interaction: discord.Interaction) -> None:
        await self._managing.require(interaction, COMMAND)
        await self._servers.change_terms(self._guild_id, interaction.user.id, self._terms.value.strip())
        sentence = "These terms hold from now on: everybody is asked once before their next picture."
        await interaction.response.send_message(sentence, ephemeral=True)

    async def on_error(self, interaction: discord.Interaction, error: Exception) -> None:  # type: ignore[override]
        await report(interaction, error)


@app_commands.guild_install()
@app_commands.guild_only()
class TermsCommands(commands.GroupCog, group_name=COMMAND):
    """What this server asks of people who draw."""

    def __init__(self, bot: ImagineBot) -> None:
        self._servers = bot.services.servers
        self._managing = Managing(bot)

    @app_commands.command()
    async def show(self, interaction: discord.Interaction) -> None:
        """Show the terms of this server."""
        terms = (await self._servers.of(interaction.guild_id or 0)).terms
        sentence = terms or "This server has no terms of its own."
        await interaction.response.send_message(sentence, ephemeral=True)

    @app_commands.command(name="set")
    async def change(self, interaction: discord.Interaction) -> None:
        """Write the terms that members accept before they draw (needs Manage Server)."""
        guild_id = await self._managing.require(interaction, COMMAND)
        terms = (await self._servers.of(guild_id)).terms
        await interaction.response.send_modal(TermsForm(self._servers, self._managing, guild_id, terms))

    @app_commands.command()
    async def clear(self, interaction: discord.Interaction) -> None:
        """Ask nobody for anything any more (needs Manage Server)."""
        guild_id = await self._managing.require(interaction, COMMAND)
        await self._servers.change_terms(guild_id, interaction.user.id, None)
        await interaction.response.send_message("This server has no terms any more.", ephemeral=True)

    @commands.Cog.listener()
    async def on_terms_button(self, interaction: discord.Interaction, press: TermsPress) -> None:
        try:
            await self._servers.accept_terms(press.guild_id, interaction.user.id, press.version)
            await self._servers.require_terms_accepted(press.guild_id, interaction.user.id)  # they may have changed
            sentence = "You accepted the terms of this server: now ask for your picture again."
            await interaction.response.edit_message(content=sentence, view=None)
        except Exception as error:
            await report(interaction, error)


async def setup(bot: ImagineBot) -> None:
    bot.add_dynamic_items(TermsButton)
    await bot.add_cog(TermsCommands(bot))
