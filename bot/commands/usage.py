"""/usage: the GPU time of today."""

from __future__ import annotations

from typing import TYPE_CHECKING

import discord
from discord import app_commands
from discord.ext import commands

from bot.commands.admission import role_ids
from bot.jobs.quota import Quotas
from bot.views import usage as usage_view

if TYPE_CHECKING:
    from bot.client import ImagineBot

MOST = 5
"""Users of a server that its managers see by name."""


class Usage(commands.Cog):
    def __init__(self, quotas: Quotas) -> None:
        self._quotas = quotas

    @app_commands.command()
    @app_commands.guild_install()
    @app_commands.allowed_contexts(guilds=True, dms=True, private_channels=False)
    async def usage(self, interaction: discord.Interaction) -> None:
        """Show how much GPU time you used today (managers see their server's too)."""
        mine = await self._quotas.of_user(interaction.user.id, role_ids(interaction))
        guild_id = interaction.guild_id
        if guild_id is not None and interaction.permissions.manage_guild:
            most = await self._quotas.most_in_guild(guild_id, MOST)
            view = usage_view.render(mine, await self._quotas.of_guild(guild_id), most)
        else:
            view = usage_view.render(mine)
        await interaction.response.send_message(view=view, ephemeral=True)


async def setup(bot: ImagineBot) -> None:
    await bot.add_cog(Usage(bot.services.quotas))
