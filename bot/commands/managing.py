"""Who may change what a server draws with, asked anew at every command and every button."""

from __future__ import annotations

from typing import TYPE_CHECKING

import discord

from bot.errors import NotAllowed

if TYPE_CHECKING:
    from bot.client import ImagineBot

_ROLE, _USER = 1, 2


class Managing:
    """Managers of a server: whoever has Manage Server there, and whomever the server's own settings for the command
    (Server Settings, Integrations) name as allowed to use it."""

    def __init__(self, bot: ImagineBot) -> None:
        self._bot = bot
        self._ids: dict[str, int] = {}

    async def require(self, interaction: discord.Interaction, command: str) -> int:
        """The server. Raises NotAllowed for others than its managers."""
        if interaction.guild_id is None:
            raise NotAllowed("This works in servers only.")
        if not interaction.permissions.manage_guild and not await self.named(interaction, command):
            raise NotAllowed("You need the permission Manage Server for that.")
        return interaction.guild_id

    async def require_for_all(self, interaction: discord.Interaction, command: str) -> int:
        """The same for what every server shares: where the bot is in several, only its owner may change that."""
        guild_id = await self.require(interaction, command)
        if len(self._bot.guilds) > 1 and not await self.is_owner(interaction):
            raise NotAllowed("Several servers share this bot's checkpoints, so only its owner adds or removes any.")
        return guild_id

    async def is_owner(self, interaction: discord.Interaction) -> bool:
        return await self._bot.is_owner(interaction.user)

    async def named(self, interaction: discord.Interaction, command: str) -> bool:
        """Whether the server's settings for the command name this member or one of their roles."""
        member = interaction.user
        if not isinstance(member, discord.Member) or self._bot.application_id is None:
            return False
        try:
            if command not in self._ids:
                self._ids = {known.name: known.id for known in await self._bot.tree.fetch_commands()}
            overrides = await self._bot.http.get_application_command_permissions(
                self._bot.application_id, member.guild.id, self._ids.get(command, 0)
            )
        except discord.HTTPException:
            return False  # where a server changed nothing, there is nothing to fetch
        # The id of @everyone is the server's: that the command is shown to all makes nobody a manager.
        named = {(_ROLE, role.id) for role in member.roles if not role.is_default()} | {(_USER, member.id)}
        allowed = {(entry["type"], int(entry["id"])) for entry in overrides["permissions"] if entry["permission"]}
        return not named.isdisjoint(allowed)
