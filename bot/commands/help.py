"""/help: what the bot can do, on one private page."""

from __future__ import annotations

import discord
from discord import app_commands
from discord.ext import commands

from bot.views import help as help_view


class Help(commands.Cog):
    @app_commands.command()
    @app_commands.guild_install()
    @app_commands.allowed_contexts(guilds=True, dms=True, private_channels=False)
    async def help(self, interaction: discord.Interaction) -> None:
        """Show what this bot can do."""
        await interaction.response.send_message(view=help_view.render(), ephemeral=True)


async def setup(bot: commands.Bot) -> None:
    await bot.add_cog(Help())
