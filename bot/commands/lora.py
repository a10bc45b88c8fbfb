"""/lora: small additions to checkpoints, which requests name with a weight."""

from __future__ import annotations

from typing import TYPE_CHECKING

import discord
from discord import app_commands
from discord.ext import commands

from bot.commands.catalogue import MAX_CHOICES
from bot.commands.managing import Managing
from bot.moderation.audit import Deed
from bot.views import loras as loras_view
from bot.views import text
from t2i.api import Remove

if TYPE_CHECKING:
    from bot.client import ImagineBot

COMMAND = "lora"


@app_commands.guild_install()
@app_commands.guild_only()
class Lora(commands.GroupCog, group_name=COMMAND):
    """Small additions to checkpoints."""

    def __init__(self, bot: ImagineBot) -> None:
        self._changing = bot.services.changing
        self._shelving = bot.services.shelving
        self._audit_log = bot.services.audit_log
        self._managing = Managing(bot)

    @app_commands.command(name="list")
    async def list_all(self, interaction: discord.Interaction) -> None:
        """Show the LoRAs that requests can name."""
        await interaction.response.send_message(view=loras_view.render(self._shelving.shelf().loras), ephemeral=True)

    @app_commands.command()
    @app_commands.describe(
        source="A file in the folder of checkpoints, or a model of the hub such as org/name@revision",
        name="What it is called here (default: as it is)",
    )
    async def add(self, interaction: discord.Interaction, source: str, name: str | None = None) -> None:
        """Add a LoRA for all servers (needs Manage Server)."""
        await self._managing.require_for_all(interaction, COMMAND)
        anywhere = await self._managing.is_owner(interaction)
        await self._changing.add(interaction, source, name, anywhere=anywhere)

    @app_commands.command()
    @app_commands.describe(name="The LoRA whose file is deleted")
    async def remove(self, interaction: discord.Interaction, name: str) -> None:
        """Delete a LoRA (needs Manage Server)."""
        guild_id = await self._managing.require_for_all(interaction, COMMAND)
        await interaction.response.defer(ephemeral=True, thinking=True)
        await self._shelving.remove(Remove(request_id=f"remove lora {interaction.id}", name=name, lora=True))
        await self._audit_log.record(Deed(guild_id, interaction.user.id, "lora.remove", f"lora {name}"))
        await interaction.edit_original_response(content=f"The LoRA **{text.quoted(name, 60)}** is deleted.")

    @remove.autocomplete("name")
    async def _offer_loras(self, interaction: discord.Interaction, typed: str) -> list[app_commands.Choice[str]]:
        names = [lora.name for lora in self._shelving.shelf().loras if typed.casefold() in lora.name.casefold()]
        return [app_commands.Choice(name=name, value=name) for name in names[:MAX_CHOICES]]


async def setup(bot: ImagineBot) -> None:
    await bot.add_cog(Lora(bot))
