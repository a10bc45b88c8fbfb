"""/checkpoint: which models can draw, and which one this server uses."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

import discord
from discord import app_commands
from discord.ext import commands

from bot.commands import until as when
from bot.commands.errors import report
from bot.commands.managing import Managing
from bot.errors import CheckpointNotAllowed
from bot.jobs.changes import ChangeKind
from bot.jobs.samples import PROMPTS
from bot.moderation.audit import Deed
from bot.views import card as card_view
from bot.views import checkpoints as checkpoints_view
from bot.views import text
from bot.views.changes import ChangeButton, ChangePress, ChangeVerb
from t2i.api import T2IError

if TYPE_CHECKING:
    from bot.client import ImagineBot

log = logging.getLogger(__name__)

COMMAND = "checkpoint"
EVERYTHING = "everything"


@app_commands.guild_install()
@app_commands.guild_only()
class Checkpoint(commands.GroupCog, group_name=COMMAND):
    """The models that draw."""

    # Discord can hide whole commands from members, not subcommands, and `list` is for everyone: so the checks are here.

    def __init__(self, bot: ImagineBot) -> None:
        self._bot = bot
        self._catalogue = bot.services.catalogue
        self._checkpoints = bot.services.checkpoints
        self._changing = bot.services.changing
        self._shelving = bot.services.shelving
        self._samples = bot.services.samples
        self._judging = bot.services.judging
        self._managing = Managing(bot)
        self._mending: asyncio.Task[None] | None = None

    async def cog_load(self) -> None:
        await self._changing.interrupt()
        self._mending = asyncio.create_task(self._changing.mend(), name="mend messages of changes")

    @app_commands.command(name="list")
    async def list_all(self, interaction: discord.Interaction) -> None:
        """Show the checkpoints that can draw."""
        view = checkpoints_view.render(
            await self._catalogue.offered(interaction.guild_id),
            await self._catalogue.current(interaction.guild_id),
            choice=await self._checkpoints.of_guild(interaction.guild_id),
            default=self._catalogue.default,
            loaded=self._samples.loaded,
            damaged=self._shelving.shelf().damaged,
        )
        await interaction.response.send_message(view=view, ephemeral=True)

    @app_commands.command()
    @app_commands.describe(name="The checkpoint to look at")
    async def info(self, interaction: discord.Interaction, name: str) -> None:
        """Show samples of a checkpoint, what it can do and what it needs."""
        await self._show_card(interaction, name)

    @app_commands.command()
    @app_commands.describe(
        name="The checkpoint that draws in this server from now on",
        until="Only for a while: how long (2 h, 3 days) or until when (22:00)",
    )
    async def use(self, interaction: discord.Interaction, name: str, until: str | None = None) -> None:
        """Try a checkpoint and have this server draw with it (needs Manage Server)."""
        guild_id = await self._managing.require(interaction, COMMAND)
        await self._catalogue.require_allowed(name, guild_id)
        moment = when.parse(until, datetime.now().astimezone()) if until else None
        await self._changing.switch(interaction, name, until=moment)

    @app_commands.command()
    async def rollback(self, interaction: discord.Interaction) -> None:
        """Go back to the checkpoint this server drew with before (needs Manage Server)."""
        await self._managing.require(interaction, COMMAND)
        await self._changing.rollback(interaction)

    @app_commands.command()
    @app_commands.describe(name="The checkpoint whose files are read anew")
    async def reload(self, interaction: discord.Interaction, name: str) -> None:
        """Read a checkpoint's files anew, after they were replaced (needs Manage Server)."""
        await self._managing.require_for_all(interaction, COMMAND)
        await self._catalogue.require(name)
        await self._changing.switch(interaction, name, kind=ChangeKind.RELOAD)

    @app_commands.command()
    @app_commands.describe(
        source="A file or folder in the folder of checkpoints, or a model of the hub such as org/name@revision",
        name="What it is called here (default: as it is)",
    )
    async def add(self, interaction: discord.Interaction, source: str, name: str | None = None) -> None:
        """Add a checkpoint or a LoRA for all servers (needs Manage Server)."""
        await self._managing.require_for_all(interaction, COMMAND)
        anywhere = await self._managing.is_owner(interaction)
        await self._changing.add(interaction, source, name, anywhere=anywhere)

    @app_commands.command()
    @app_commands.describe(name="The checkpoint whose files are deleted")
    async def remove(self, interaction: discord.Interaction, name: str) -> None:
        """Delete a checkpoint that nobody uses (needs Manage Server)."""
        await self._managing.require_for_all(interaction, COMMAND)
        await self._changing.ask_to_remove(interaction, name)

    @app_commands.command()
    @app_commands.describe(name="What members may draw with too; “everything” lifts every limit")
    async def allow(self, interaction: discord.Interaction, name: str) -> None:
        """Let this server's members draw with a checkpoint (needs Manage Server)."""
        guild_id = await self._managing.require(interaction, COMMAND)
        allowed = await self._checkpoints.allowed(guild_id)
        if name != EVERYTHING:
            await self._catalogue.require(name)
        if name == EVERYTHING or not allowed:
            await self._checkpoints.allow(guild_id, (), _allowance(interaction, guild_id))
            await interaction.response.send_message("Members draw with every checkpoint here.", ephemeral=True)
            return
        await self._checkpoints.allow(guild_id, allowed | {name}, _allowance(interaction, guild_id))
        await interaction.response.send_message(await self._what_is_offered(guild_id), ephemeral=True)

    @app_commands.command()
    @app_commands.describe(name="What members may not draw with any more")
    async def forbid(self, interaction: discord.Interaction, name: str) -> None:
        """Keep this server's members from drawing with a checkpoint (needs Manage Server)."""
        guild_id = await self._managing.require(interaction, COMMAND)
        await self._catalogue.require(name)
        current = await self._catalogue.current(guild_id)
        if name == current:
            raise CheckpointNotAllowed(f"This server draws with {name} itself: `/checkpoint use` another one first.")
        allowed = {info.name for info in await self._catalogue.offered(guild_id)}
        left = (allowed | {current}) - {name}
        await self._checkpoints.allow(guild_id, left, _allowance(interaction, guild_id))
        await interaction.response.send_message(await self._what_is_offered(guild_id), ephemeral=True)

    async def _what_is_offered(self, guild_id: int) -> str:
        names = [text.quoted(info.name, 60) for info in await self._catalogue.offered(guild_id)]
        more = f" and {len(names) - 20} more" if len(names) > 20 else ""
        return f"Members draw with {', '.join(names[:20])}{more} here."

    @use.autocomplete("name")
    async def _offer_allowed(self, interaction: discord.Interaction, typed: str) -> list[app_commands.Choice[str]]:
        return await self._catalogue.choices(typed, interaction.guild_id)

    @info.autocomplete("name")
    @reload.autocomplete("name")
    @remove.autocomplete("name")
    @forbid.autocomplete("name")
    @allow.autocomplete("name")
    async def _offer_all(self, interaction: discord.Interaction, typed: str) -> list[app_commands.Choice[str]]:
        return await self._catalogue.choices(typed)

    @use.autocomplete("until")
    async def _offer_times(self, interaction: discord.Interaction, typed: str) -> list[app_commands.Choice[str]]:
        return [app_commands.Choice(name=e, value=e) for e in when.EXAMPLES if typed.strip().lower() in e]

    @commands.Cog.listener()
    async def on_change_button(self, interaction: discord.Interaction, press: ChangePress) -> None:
        try:
            await self._pressed(interaction, press)
        except Exception as error:
            await report(interaction, error)

    async def _pressed(self, interaction: discord.Interaction, press: ChangePress) -> None:
        change = await self._changing.get(press.change_id)
        name = change.checkpoint or self._catalogue.default
        match press.verb:
            case ChangeVerb.INFO:
                await self._show_card(interaction, name)
            case ChangeVerb.ROLLBACK:
                await self._managing.require(interaction, COMMAND)
                await self._changing.rollback(interaction, of=change.id)
            case ChangeVerb.USE:
                guild_id = await self._managing.require(interaction, COMMAND)
                await self._catalogue.require_allowed(name, guild_id)
                await self._changing.switch(interaction, name)
            case ChangeVerb.REMOVE:
                await self._managing.require_for_all(interaction, COMMAND)
                await self._changing.remove(interaction, change)
            case ChangeVerb.CANCEL:
                if interaction.user.id != change.user_id:
                    await self._managing.require(interaction, COMMAND)
                await self._changing.call_off(interaction, change)
            case ChangeVerb.KEEP:
                await self._managing.require_for_all(interaction, COMMAND)
                await self._changing.leave(interaction, change)

    async def _show_card(self, interaction: discord.Interaction, name: str) -> None:
        """At once; where its samples are to be drawn first, and may be, they follow."""
        self._catalogue.require_sound(name)
        await self._catalogue.require(name)
        info = await self._catalogue.find(name)
        if info is None:
            await interaction.response.send_message("The image engine is still starting.", ephemeral=True)
            return
        sheet = await asyncio.to_thread(self._samples.kept, info)
        # Whoever only looks has no other model loaded for it.
        loaded = self._samples.loaded(name)
        drawing = sheet is None and (loaded or interaction.permissions.manage_guild)
        current = name == await self._catalogue.current(interaction.guild_id)
        card = card_view.Card(info, loaded, current, await self._samples.measure(info), sheet, drawing)
        shown = card_view.render(await self._screened(interaction, card))
        await interaction.response.send_message(view=shown.view, files=list(shown.files), ephemeral=True)
        if not drawing:
            return
        try:
            sheet = await self._samples.draw(info)
        except (T2IError, OSError) as error:
            log.warning("The samples of %s were not drawn: %s", name, error)
        measure = await self._samples.measure(info)
        card = replace(card, sheet=sheet, drawing=False, measure=measure, loaded=self._samples.loaded(name))
        shown = card_view.render(await self._screened(interaction, card))
        await interaction.edit_original_response(view=shown.view, attachments=list(shown.files))

    async def _screened(self, interaction: discord.Interaction, card: card_view.Card) -> card_view.Card:
        """Without samples that may not be shown here."""
        where = (interaction.guild_id, interaction.channel_id or 0)
        if card.sheet is None or await self._judging.harmless(*where, card.sheet, len(PROMPTS)):
            return card
        return replace(card, sheet=None, covered=True)


def _allowance(interaction: discord.Interaction, guild_id: int) -> Deed:
    return Deed(guild_id, interaction.user.id, "checkpoint.allow", "checkpoints")


async def setup(bot: ImagineBot) -> None:
    bot.add_dynamic_items(ChangeButton)
    await bot.add_cog(Checkpoint(bot))
