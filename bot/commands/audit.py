"""/audit: what managers and moderators did, for the managers of a server."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import discord
from discord import app_commands
from discord.ext import commands

from bot.commands.catalogue import MAX_CHOICES
from bot.commands.managing import Managing
from bot.errors import NotAllowed, TooLarge
from bot.jobs.closures import EVERYWHERE
from bot.moderation.audit_log import Wanted
from bot.views import audit as audit_view

if TYPE_CHECKING:
    from bot.client import ImagineBot

COMMAND = "audit"

Days = app_commands.Range[int, 1, 3650]
_WANTED = {
    "act": "What was done, such as queue.close, or all of an area, such as queue",
    "person": "Who did it, or whom it was done to",
    "days": "How many days back",
    "everywhere": "What concerns all servers; for the owner of the bot",
}


@app_commands.guild_install()
@app_commands.guild_only()
@app_commands.default_permissions(manage_guild=True)
class Audit(commands.GroupCog, group_name=COMMAND):
    """What managers and moderators did."""

    def __init__(self, bot: ImagineBot) -> None:
        self._log = bot.services.audit_log
        self._managing = Managing(bot)

    @app_commands.command()
    @app_commands.describe(**_WANTED)
    async def search(
        self,
        interaction: discord.Interaction,
        act: str | None = None,
        person: discord.User | None = None,
        days: Days | None = None,
        everywhere: bool = False,
    ) -> None:
        """Show the newest entries (needs Manage Server)."""
        guild_id = await self._whose(interaction, everywhere)
        entries, count = await self._log.search(_wanted(guild_id, act, person, days), limit=audit_view.SHOWN)
        await interaction.response.send_message(view=audit_view.render(entries, count), ephemeral=True)

    @app_commands.command()
    @app_commands.describe(**_WANTED)
    async def export(
        self,
        interaction: discord.Interaction,
        act: str | None = None,
        person: discord.User | None = None,
        days: Days | None = None,
        everywhere: bool = False,
    ) -> None:
        """Get the entries as a CSV file (needs Manage Server)."""
        guild_id = await self._whose(interaction, everywhere)
        await interaction.response.defer(ephemeral=True, thinking=True)
        content = await self._log.export(_wanted(guild_id, act, person, days))
        if len(content) > interaction.filesize_limit:
            raise TooLarge("The file would be larger than Discord takes: ask for fewer days, or for one act.")
        file = discord.File(io.BytesIO(content), f"audit-{guild_id}.csv")
        await interaction.edit_original_response(attachments=[file])

    @app_commands.command()
    @app_commands.describe(hash="The newest hash of an earlier time, to see that the log still holds it")
    async def verify(self, interaction: discord.Interaction, hash: str | None = None) -> None:
        """Say whether the log is whole (needs Manage Server)."""
        guild_id = await self._managing.require(interaction, COMMAND)
        await interaction.response.defer(ephemeral=True, thinking=True)
        check = await self._log.verify(guild_id, hash.strip().lower() if hash else None)
        await interaction.edit_original_response(view=audit_view.verdict(check))

    @search.autocomplete("act")
    @export.autocomplete("act")
    async def _offer_acts(self, interaction: discord.Interaction, typed: str) -> list[app_commands.Choice[str]]:
        try:
            guild_id = await self._managing.require(interaction, COMMAND)
        except NotAllowed:
            return []
        acts = [act for act in await self._log.acts(guild_id) if typed.casefold() in act]
        return [app_commands.Choice(name=act, value=act) for act in acts[:MAX_CHOICES]]

    async def _whose(self, interaction: discord.Interaction, everywhere: bool) -> int:
        """The server whose entries are meant, or EVERYWHERE."""
        guild_id = await self._managing.require(interaction, COMMAND)
        if not everywhere:
            return guild_id
        if not await self._managing.is_owner(interaction):
            raise NotAllowed("Only the owner of the bot sees what concerns all servers.")
        return EVERYWHERE


def _wanted(guild_id: int, act: str | None, person: discord.User | None, days: int | None) -> Wanted:
    since = datetime.now(UTC) - timedelta(days=days) if days is not None else None
    return Wanted(guild_id, act, person.id if person is not None else None, since)


async def setup(bot: ImagineBot) -> None:
    await bot.add_cog(Audit(bot))
