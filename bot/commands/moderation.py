"""/moderation: what the managers of a server decide about its moderation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import discord
from discord import app_commands
from discord.ext import commands

from bot.commands.managing import Managing
from bot.errors import BotLacksPermission, SettingRefused
from bot.moderation.servers import ACCEPTANCE, require_order
from bot.views import moderation as moderation_view

if TYPE_CHECKING:
    from bot.client import ImagineBot

COMMAND = "moderation"

Score = app_commands.Range[float, 0.0, 1.0]


@app_commands.guild_install()
@app_commands.guild_only()
@app_commands.default_permissions(manage_guild=True)
class Moderation(commands.GroupCog, group_name=COMMAND):
    """How this server is moderated."""

    role = app_commands.Group(name="role", description="Roles that moderate besides those with Manage Messages.")

    def __init__(self, bot: ImagineBot) -> None:
        self._servers = bot.services.servers
        self._managing = Managing(bot)

    @app_commands.command()
    async def show(self, interaction: discord.Interaction) -> None:
        """Show what holds in this server (needs Manage Server)."""
        await self._show(interaction, await self._managing.require(interaction, COMMAND))

    @app_commands.command()
    @app_commands.describe(channel="Where cases are posted; leave it out for no channel")
    async def channel(self, interaction: discord.Interaction, channel: discord.TextChannel | None = None) -> None:
        """Choose the channel in which moderators decide (needs Manage Server)."""
        guild_id = await self._managing.require(interaction, COMMAND)
        if channel is not None:
            _require_usable(channel)
        await self._change(interaction, guild_id, "channel", review_channel_id=channel.id if channel else None)

    @role.command(name="add")
    @app_commands.describe(role="Who wears it moderates")
    async def add_role(self, interaction: discord.Interaction, role: discord.Role) -> None:
        """Let a role moderate (needs Manage Server)."""
        guild_id = await self._managing.require(interaction, COMMAND)
        if role.is_default():
            raise SettingRefused("That is everybody, and not everybody moderates.")
        await self._servers.add_moderator_role(guild_id, interaction.user.id, role.id)
        await self._show(interaction, guild_id)

    @role.command(name="remove")
    @app_commands.describe(role="Who wears it does not moderate any more, unless by a permission")
    async def remove_role(self, interaction: discord.Interaction, role: discord.Role) -> None:
        """Let a role not moderate any more (needs Manage Server)."""
        guild_id = await self._managing.require(interaction, COMMAND)
        await self._servers.remove_moderator_role(guild_id, interaction.user.id, role.id)
        await self._show(interaction, guild_id)

    @app_commands.command()
    @app_commands.describe(
        spoiler="Score from which a picture is covered, 0 to 1",
        hold="Score from which a moderator has to see it first",
        block="Score from which nobody sees it",
    )
    async def thresholds(
        self,
        interaction: discord.Interaction,
        spoiler: Score | None = None,
        hold: Score | None = None,
        block: Score | None = None,
    ) -> None:
        """Choose how explicit pictures may be outside age-restricted channels; none: the bot's own (Manage Server)."""
        guild_id = await self._managing.require(interaction, COMMAND)
        require_order(spoiler, hold, block)
        await self._change(interaction, guild_id, "thresholds", spoiler_at=spoiler, hold_at=hold, block_at=block)

    @app_commands.command(name="hide-after")
    @app_commands.describe(reports="How many people have to report a picture; leave it out for the bot's own number")
    async def hide_after(
        self, interaction: discord.Interaction, reports: app_commands.Range[int, 1, 100] | None = None
    ) -> None:
        """Choose how many reports hide a picture until a moderator decides (needs Manage Server)."""
        guild_id = await self._managing.require(interaction, COMMAND)
        _require_range("Reports", reports, 1, 100)
        await self._change(interaction, guild_id, "hide-after", hide_after_reports=reports)

    @app_commands.command()
    @app_commands.describe(days="Leave it out to keep them until somebody deletes them")
    async def retention(
        self, interaction: discord.Interaction, days: app_commands.Range[int, 1, 3650] | None = None
    ) -> None:
        """Choose after how many days the bot deletes prompts and its copies of pictures (needs Manage Server)."""
        guild_id = await self._managing.require(interaction, COMMAND)
        _require_range("Days", days, 1, 3650)
        await self._change(interaction, guild_id, "retention", retention_days=days)

    @app_commands.command(name="accept-unjudged")
    @app_commands.describe(words=f"Write “{ACCEPTANCE}”; leave it out to take that back")
    async def accept_unjudged(self, interaction: discord.Interaction, words: str | None = None) -> None:
        """Show pictures here although nothing can judge them (needs Manage Server)."""
        guild_id = await self._managing.require(interaction, COMMAND)
        if words is not None and words.strip(" .!").casefold() != ACCEPTANCE.casefold():
            raise SettingRefused(f"Nothing was changed: it takes the words “{ACCEPTANCE}”.")
        await self._change(interaction, guild_id, "accept-unjudged", unjudged_accepted=words and ACCEPTANCE)

    async def _change(self, interaction: discord.Interaction, guild_id: int, setting: str, **values: Any) -> None:
        await self._servers.change(guild_id, interaction.user.id, f"settings.{setting}", **values)
        await self._show(interaction, guild_id)

    async def _show(self, interaction: discord.Interaction, guild_id: int) -> None:
        settings, roles = await self._servers.of(guild_id), await self._servers.moderator_roles(guild_id)
        await interaction.response.send_message(view=moderation_view.render(settings, roles), ephemeral=True)


def _require_usable(channel: discord.TextChannel) -> None:
    """Raises BotLacksPermission, or SettingRefused where everybody would see the cases."""
    mine = channel.permissions_for(channel.guild.me)
    needed = discord.Permissions(view_channel=True, send_messages=True, attach_files=True, read_message_history=True)
    missing = [name for name, wanted in needed if wanted and not getattr(mine, name)]
    if missing:
        names = ", ".join(name.replace("_", " ").title() for name in missing)
        raise BotLacksPermission(f"I cannot post cases there. Give me in that channel: {names}.")
    if channel.permissions_for(channel.guild.default_role).view_channel:
        raise SettingRefused("Everybody sees that channel: cases show prompts and pictures that members should not.")


def _require_range(name: str, value: int | None, smallest: int, largest: int) -> None:
    """Discord enforces it in the composer only. Raises SettingRefused."""
    if value is not None and not smallest <= value <= largest:
        raise SettingRefused(f"{name} must be from {smallest} to {largest}, not {value}.")


async def setup(bot: ImagineBot) -> None:
    await bot.add_cog(Moderation(bot))
