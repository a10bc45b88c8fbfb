"""/queue: what waits, and what its owners and the server's moderators may do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import discord
from discord import app_commands
from discord.ext import commands

from bot.commands.errors import report
from bot.commands.moderating import Moderating
from bot.errors import NotAllowed
from bot.jobs.closures import EVERYWHERE
from bot.jobs.model import Closure
from bot.jobs.service import JobService
from bot.moderation.audit import Deed
from bot.views import queue as queue_view
from bot.views.queue import SHOWN, QueueButton, QueuePress, QueueVerb, Scope

if TYPE_CHECKING:
    from bot.client import ImagineBot


@app_commands.guild_install()
@app_commands.allowed_contexts(guilds=True, dms=True, private_channels=False)
class Queue(commands.GroupCog, group_name="queue"):
    """What waits to be drawn."""

    # Discord can hide whole commands from members, not subcommands, and `mine` is for everyone: so the checks are here.

    def __init__(self, bot: ImagineBot) -> None:
        self._bot = bot
        self._jobs: JobService = bot.services.jobs
        self._moderating = Moderating(bot)

    @app_commands.command()
    async def mine(self, interaction: discord.Interaction) -> None:
        """Show your own jobs that wait or are being drawn."""
        await interaction.response.send_message(view=await self._mine(interaction), ephemeral=True)

    @app_commands.command(name="all")
    async def everything(self, interaction: discord.Interaction) -> None:
        """Show this server's queue (moderators)."""
        guild_id = await self._moderating.require(interaction)
        await interaction.response.send_message(view=await self._all(guild_id), ephemeral=True)

    @app_commands.command()
    @app_commands.describe(everywhere="All servers; for the owner of the bot")
    async def pause(self, interaction: discord.Interaction, everywhere: bool = False) -> None:
        """Begin no more jobs; those that wait keep their place (moderators)."""
        await self._close(interaction, Closure.PAUSED, everywhere)

    @app_commands.command()
    @app_commands.describe(everywhere="All servers; for the owner of the bot")
    async def drain(self, interaction: discord.Interaction, everywhere: bool = False) -> None:
        """Draw what waits and take nothing new (moderators)."""
        await self._close(interaction, Closure.DRAINING, everywhere)

    @app_commands.command()
    @app_commands.describe(everywhere="All servers; for the owner of the bot")
    async def resume(self, interaction: discord.Interaction, everywhere: bool = False) -> None:
        """End a pause or a drain (moderators)."""
        guild_id = await self._responsible_for(interaction, everywhere)
        await self._jobs.open(guild_id, _deed(interaction, guild_id, "queue.open"))
        left = await self._jobs.closures(guild_id)
        sentence = "The queue is open again."
        if left and not everywhere:
            sentence = "This server's queue is open again, but the bot's owner has closed all queues for now."
        await interaction.response.send_message(sentence, ephemeral=True)

    @app_commands.command()
    async def clear(self, interaction: discord.Interaction) -> None:
        """Cancel every waiting job of this server (moderators)."""
        await self._moderating.require(interaction)
        await interaction.response.send_message(view=queue_view.confirm_clear(), ephemeral=True)

    @commands.Cog.listener()
    async def on_queue_button(self, interaction: discord.Interaction, press: QueuePress) -> None:
        try:
            await interaction.response.edit_message(view=await self._pressed(interaction, press))
        except Exception as error:
            await report(interaction, error)

    async def _pressed(self, interaction: discord.Interaction, press: QueuePress) -> discord.ui.LayoutView:
        """Do what was pressed, for whoever may; the list as it is then."""
        if press.scope is Scope.MINE:
            if press.verb is QueueVerb.CANCEL:
                await self._cancel(interaction, press.job_id)
            return await self._mine(interaction)
        guild_id = await self._moderating.require(interaction)
        match press.verb:
            case QueueVerb.CANCEL:
                await self._cancel(interaction, press.job_id)
            case QueueVerb.PAUSE:
                await self._jobs.close(guild_id, Closure.PAUSED, _deed(interaction, guild_id, "queue.close"))
            case QueueVerb.DRAIN:
                await self._jobs.close(guild_id, Closure.DRAINING, _deed(interaction, guild_id, "queue.close"))
            case QueueVerb.RESUME:
                await self._jobs.open(guild_id, _deed(interaction, guild_id, "queue.open"))
            case QueueVerb.CLEAR:
                return queue_view.confirm_clear()
            case QueueVerb.CONFIRM_CLEAR:
                await self._jobs.clear(guild_id, _deed(interaction, guild_id, "queue.clear"))
        return await self._all(guild_id)

    async def _cancel(self, interaction: discord.Interaction, job_id: int) -> None:
        """One's own job or, for moderators, one of their server. It may have ended meanwhile, and the list says so."""
        job = await self._jobs.get(job_id)
        if job.user_id == interaction.user.id:
            await self._jobs.cancel(job_id)
        elif job.guild_id == interaction.guild_id and await self._moderating.may(interaction):
            await self._jobs.cancel(job_id, Deed(job.guild_id or 0, interaction.user.id, "job.cancel", f"job {job_id}"))
        else:
            raise NotAllowed(f"Only <@{job.user_id}> and moderators of its server can cancel this.")

    async def _close(self, interaction: discord.Interaction, closure: Closure, everywhere: bool) -> None:
        guild_id = await self._responsible_for(interaction, everywhere)
        await self._jobs.close(guild_id, closure, _deed(interaction, guild_id, "queue.close"))
        whose = "Every queue" if everywhere else "This server's queue"
        sentence = {
            Closure.PAUSED: f"{whose} is paused: jobs keep their place until `/queue resume`.",
            Closure.DRAINING: f"{whose} runs empty: nothing new is taken until `/queue resume`.",
        }
        await interaction.response.send_message(sentence[closure], ephemeral=True)

    async def _responsible_for(self, interaction: discord.Interaction, everywhere: bool) -> int:
        if not everywhere:
            return await self._moderating.require(interaction)
        if not await self._bot.is_owner(interaction.user):
            raise NotAllowed("Only the owner of the bot can do that for all servers.")
        return EVERYWHERE

    async def _mine(self, interaction: discord.Interaction) -> discord.ui.LayoutView:
        jobs, count = await self._jobs.line(user_id=interaction.user.id, limit=SHOWN)
        return queue_view.render(Scope.MINE, jobs, count, await self._jobs.closures(interaction.guild_id))

    async def _all(self, guild_id: int) -> discord.ui.LayoutView:
        jobs, count = await self._jobs.line(guild_id=guild_id, limit=SHOWN)
        return queue_view.render(Scope.ALL, jobs, count, await self._jobs.closures(guild_id))


def _deed(interaction: discord.Interaction, guild_id: int, act: str) -> Deed:
    return Deed(guild_id, interaction.user.id, act, "queue")


async def setup(bot: ImagineBot) -> None:
    bot.add_dynamic_items(QueueButton)
    await bot.add_cog(Queue(bot))
