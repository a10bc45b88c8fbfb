"""/restrict and /unrestrict: who may not draw here, for a while or for good."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import discord
from discord import app_commands
from discord.ext import commands

from bot.commands import until
from bot.commands.hierarchy import require_above
from bot.commands.moderating import Moderating
from bot.moderation.restrictions import Restriction

if TYPE_CHECKING:
    from bot.client import ImagineBot

LONGEST_REASON = 300


class Restrict(commands.Cog):
    def __init__(self, bot: ImagineBot) -> None:
        self._restrictions = bot.services.casework.restrictions
        self._moderating = Moderating(bot)

    @app_commands.command()
    @app_commands.guild_install()
    @app_commands.guild_only()
    @app_commands.default_permissions(manage_messages=True)
    @app_commands.describe(
        user="Who may not draw here",
        reason="What they are told when they try",
        span="How long, such as 2 h, 3 days or 1 week; for good when left out",
    )
    @app_commands.rename(span="for")
    async def restrict(
        self,
        interaction: discord.Interaction,
        user: discord.User,
        reason: app_commands.Range[str, 1, LONGEST_REASON],
        span: str | None = None,
    ) -> None:
        """Take the right to draw here from somebody, for a while or for good (moderators)."""
        guild_id = await self._moderating.require(interaction, "restrict")
        lasts = until.parse(span, datetime.now(UTC)) if span else None
        await require_above(interaction, user.id)
        wanted = Restriction(guild_id, user.id, lasts, reason)
        holds = await self._restrictions.impose(wanted, by=interaction.user.id)
        how_long = f"until {discord.utils.format_dt(holds.until, 'f')}" if holds.until else "any more"
        stays = "" if holds == wanted else " That was decided before and lasts longer."
        await interaction.response.send_message(f"{user.mention} may not draw here {how_long}.{stays}", ephemeral=True)

    @app_commands.command()
    @app_commands.guild_install()
    @app_commands.guild_only()
    @app_commands.default_permissions(manage_messages=True)
    @app_commands.describe(user="Who may draw here again")
    async def unrestrict(self, interaction: discord.Interaction, user: discord.User) -> None:
        """Let somebody draw here again (moderators)."""
        guild_id = await self._moderating.require(interaction, "unrestrict")
        await require_above(interaction, user.id)
        lifted = await self._restrictions.lift(guild_id, user.id, by=interaction.user.id)
        sentence = "may draw here again." if lifted else "was never stopped from drawing here."
        await interaction.response.send_message(f"{user.mention} {sentence}", ephemeral=True)


async def setup(bot: ImagineBot) -> None:
    await bot.add_cog(Restrict(bot))
