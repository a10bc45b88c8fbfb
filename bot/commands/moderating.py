"""Who may moderate, asked anew at every command and every button."""

from __future__ import annotations

from typing import TYPE_CHECKING

import discord

from bot.commands.managing import Managing
from bot.errors import NotAllowed

if TYPE_CHECKING:
    from bot.client import ImagineBot


class Moderating:
    """Moderators: whoever has Manage Messages in the channel or Manage Server, whoever wears a role that the server's
    managers named (`/moderation role add`), and whomever the server's own settings for the command name."""

    def __init__(self, bot: ImagineBot) -> None:
        self._servers = bot.services.servers
        self._managing = Managing(bot)

    async def require(self, interaction: discord.Interaction, command: str | None = None) -> int:
        """The server. Raises NotAllowed for others than its moderators."""
        if interaction.guild_id is None:
            raise NotAllowed("This works in servers only.")
        if not await self.may(interaction, command):
            raise NotAllowed("You need the permission Manage Messages or Manage Server for that.")
        return interaction.guild_id

    async def may(self, interaction: discord.Interaction, command: str | None = None) -> bool:
        """Never in direct messages, which have no moderators."""
        if interaction.guild_id is None:
            return False
        if interaction.permissions.manage_messages or interaction.permissions.manage_guild:
            return True
        if isinstance(interaction.user, discord.Member):
            worn = {role.id for role in interaction.user.roles}
            if not worn.isdisjoint(await self._servers.moderator_roles(interaction.guild_id)):
                return True
        return command is not None and await self._managing.named(interaction, command)
