"""/privacy: what somebody may do with their own data. /purge: what moderators may do with somebody's results."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import discord
from discord import app_commands
from discord.ext import commands

from bot.commands.errors import report
from bot.commands.hierarchy import require_above
from bot.commands.moderating import Moderating
from bot.errors import NotAllowed
from bot.views import privacy as privacy_view
from bot.views import text
from bot.views.privacy import DataButton, DataPress, DataVerb

if TYPE_CHECKING:
    from bot.client import ImagineBot

PURGE = "purge"


@app_commands.guild_install()
@app_commands.allowed_contexts(guilds=True, dms=True, private_channels=False)
class PrivacyCommands(commands.GroupCog, group_name="privacy"):
    """What the bot keeps about you."""

    def __init__(self, bot: ImagineBot) -> None:
        self._data = bot.services.personal_data
        self._servers = bot.services.servers
        self._moderating = Moderating(bot)

    async def cog_load(self) -> None:
        self._data.start()

    async def cog_unload(self) -> None:
        await self._data.stop()

    @app_commands.command()
    async def statement(self, interaction: discord.Interaction) -> None:
        """Show what is kept about you, where, and how long."""
        days = self._data.retention_days
        if interaction.guild_id is not None:
            days = (await self._servers.of(interaction.guild_id)).retention_days or days
        await interaction.response.send_message(view=privacy_view.statement(days), ephemeral=True)

    @app_commands.command()
    @app_commands.describe(days="Only pictures of so many days, when all would be too many for Discord")
    async def export(
        self, interaction: discord.Interaction, days: app_commands.Range[int, 1, 3650] | None = None
    ) -> None:
        """Get a copy of everything that is kept about you."""
        await interaction.response.defer(ephemeral=True, thinking=True)
        since = datetime.now(UTC) - timedelta(days=days) if days is not None else None
        number = 0
        async for content in self._data.export.zips(interaction.user.id, limit=interaction.filesize_limit, since=since):
            number += 1
            file = discord.File(io.BytesIO(content), f"imagine-bot-{number}.zip")
            if number == 1:
                await interaction.edit_original_response(attachments=[file])
            else:
                await interaction.followup.send(file=file, ephemeral=True)

    @app_commands.command()
    async def erase(self, interaction: discord.Interaction) -> None:
        """Delete everything that is kept about you."""
        view = privacy_view.confirm_erase(interaction.user.id)
        await interaction.response.send_message(view=view, ephemeral=True)

    @commands.Cog.listener()
    async def on_data_button(self, interaction: discord.Interaction, press: DataPress) -> None:
        try:
            await self._pressed(interaction, press)
        except Exception as error:
            await report(interaction, error)

    async def _pressed(self, interaction: discord.Interaction, press: DataPress) -> None:
        match press.verb:
            case DataVerb.KEEP:
                view = privacy_view.told("Nothing was deleted.")
                await interaction.response.edit_message(view=view)
            case DataVerb.ERASE:
                if press.user_id != interaction.user.id:
                    raise NotAllowed("Everybody decides about their own data.")
                await interaction.response.defer()
                count = await self._data.privacy.erase(interaction.user.id)
                sentence = f"{text.counted(count, 'job')} of yours and everything about you is deleted."
                await interaction.edit_original_response(
                    view=privacy_view.told(f"{sentence} The messages vanish within minutes.")
                )
            case DataVerb.PURGE:
                guild_id = await self._moderating.require(interaction, PURGE)
                await require_above(interaction, press.user_id)
                await interaction.response.defer()
                count = await self._data.privacy.purge(guild_id, press.user_id, by=interaction.user.id)
                sentence = f"{text.counted(count, 'job')} of <@{press.user_id}> deleted."
                await interaction.edit_original_response(
                    view=privacy_view.told(f"{sentence} The messages vanish within minutes.")
                )


@app_commands.guild_install()
@app_commands.guild_only()
@app_commands.default_permissions(manage_messages=True)
class PurgeCommands(commands.GroupCog, group_name=PURGE):
    """Deletes what somebody drew here."""

    def __init__(self, bot: ImagineBot) -> None:
        self._moderating = Moderating(bot)

    @app_commands.command()
    @app_commands.describe(user="Whose results are deleted")
    async def user(self, interaction: discord.Interaction, user: discord.User) -> None:
        """Delete all of somebody's results in this server (moderators)."""
        await self._moderating.require(interaction, PURGE)
        await require_above(interaction, user.id)
        view = privacy_view.confirm_purge(user.id)
        await interaction.response.send_message(view=view, ephemeral=True)


async def setup(bot: ImagineBot) -> None:
    bot.add_dynamic_items(DataButton)
    await bot.add_cog(PrivacyCommands(bot))
    await bot.add_cog(PurgeCommands(bot))
