"""Whom a moderator may take the right to draw from: as in Discord itself, only people below them."""

from __future__ import annotations

import discord

from bot.errors import NotAllowed


async def require_above(interaction: discord.Interaction, user_id: int) -> None:
    """Raises NotAllowed unless that person's highest role is below that of whoever asks; those who left are below."""
    guild, moderator = interaction.guild, interaction.user
    assert guild is not None, "asked in servers only"
    assert isinstance(moderator, discord.Member), "whoever acts in a server is a member"
    if user_id == moderator.id:
        raise NotAllowed("You cannot do that to yourself.")
    if user_id == guild.owner_id:
        raise NotAllowed("That is the owner of this server.")
    try:
        member = await guild.fetch_member(user_id)
    except discord.NotFound:
        return
    if member.bot:
        raise NotAllowed("Bots do not draw here.")
    if moderator.id != guild.owner_id and member.top_role >= moderator.top_role:
        raise NotAllowed("That person's highest role is not below yours.")
