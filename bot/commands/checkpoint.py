"""/checkpoint: which models can draw, and which one this server uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import discord
from discord import app_commands
from discord.ext import commands

from bot.commands.catalogue import Catalogue
from bot.jobs.service import JobService
from bot.views import checkpoints as checkpoints_view
from bot.views import text

if TYPE_CHECKING:
    from bot.client import ImagineBot


@app_commands.guild_install()
@app_commands.guild_only()
class Checkpoint(commands.GroupCog, group_name="checkpoint"):
    """The models that draw."""

    def __init__(self, jobs: JobService, catalogue: Catalogue) -> None:
        self._jobs = jobs
        self._catalogue = catalogue

    @app_commands.command(name="list")
    async def list_all(self, interaction: discord.Interaction) -> None:
        """Show the checkpoints that can draw."""
        current = await self._catalogue.current(interaction.guild_id)
        view = checkpoints_view.render(await self._catalogue.all(), current)
        await interaction.response.send_message(view=view, ephemeral=True)

    # Discord can hide whole commands from members, not subcommands, and `list` is for everyone: so the check is here.
    @app_commands.command()
    @app_commands.checks.has_permissions(manage_guild=True)
    @app_commands.describe(name="The checkpoint that draws in this server from now on")
    async def use(self, interaction: discord.Interaction, name: str) -> None:
        """Choose this server's checkpoint (needs Manage Server)."""
        assert interaction.guild_id is not None, "a guild_only command"
        await self._catalogue.require(name)
        await self._jobs.set_guild_checkpoint(interaction.guild_id, name)
        await interaction.response.send_message(f"This server now draws with **{text.quoted(name)}**.")

    @use.autocomplete("name")
    async def _offer_checkpoints(self, interaction: discord.Interaction, typed: str) -> list[app_commands.Choice[str]]:
        return await self._catalogue.choices(typed)


async def setup(bot: ImagineBot) -> None:
    await bot.add_cog(Checkpoint(bot.jobs, bot.catalogue))
