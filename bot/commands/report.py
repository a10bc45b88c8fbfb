"""Reports of pictures, by button or from the menu of a message, and appeals against decisions."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import discord
from discord import app_commands
from discord.ext import commands

from bot.commands.errors import report
from bot.commands.forms import submitted
from bot.errors import JobNotFound, NotAllowed, PicturesGone
from bot.views import report as view
from bot.views.buttons import Verb
from bot.views.report import ALL, AppealButton, ReportButton

if TYPE_CHECKING:
    from bot.client import ImagineBot

MENU = "Report picture"

_OF_JOB = re.compile(rf"(?:report|{'|'.join(Verb)}):(\d{{1,18}})(?::\d)?")


class Reporting(commands.Cog):
    def __init__(self, bot: ImagineBot) -> None:
        self._bot = bot
        self._jobs = bot.services.jobs
        self._casework = bot.services.casework
        self._menu = app_commands.ContextMenu(name=MENU, callback=self._choose)
        self._menu.guild_only = True

    async def cog_load(self) -> None:
        self._bot.tree.add_command(self._menu)

    async def cog_unload(self) -> None:
        self._bot.tree.remove_command(self._menu.name, type=self._menu.type)

    async def _choose(self, interaction: discord.Interaction, message: discord.Message) -> None:
        if message.author != self._bot.user:
            raise NotAllowed("Only pictures that I drew can be reported here.")
        await self._ask(interaction, job_of(message))

    @commands.Cog.listener()
    async def on_report_button(self, interaction: discord.Interaction, job_id: int) -> None:
        try:
            await self._ask(interaction, job_id)
        except Exception as error:
            await report(interaction, error)

    @commands.Cog.listener()
    async def on_appeal_button(self, interaction: discord.Interaction, case_id: int) -> None:
        try:
            await self._casework.review.require_appealable(case_id, interaction.user.id)
            await interaction.response.send_modal(view.appeal_form(case_id))
        except Exception as error:
            await report(interaction, error)

    @commands.Cog.listener()
    async def on_interaction(self, interaction: discord.Interaction) -> None:
        try:
            if filled := submitted(interaction, r"report:(\d{1,18})"):
                await self._report(interaction, int(filled[0][1]), filled[1])
            elif filled := submitted(interaction, r"appeal:(\d{1,18})"):
                await self._appeal(interaction, int(filled[0][1]), filled[1]["reason"])
        except Exception as error:
            await report(interaction, error)

    async def _ask(self, interaction: discord.Interaction, job_id: int) -> None:
        job = await self._jobs.get(job_id)
        if job.guild_id != interaction.guild_id:
            raise JobNotFound("That job is of another server.")
        images = await self._jobs.images(job_id)
        if not any(image.showing.seen for image in images):
            raise PicturesGone("This message shows no picture that could be reported.")
        await interaction.response.send_modal(view.report_form(job, images))

    async def _report(self, interaction: discord.Interaction, job_id: int, fields: dict[str, str]) -> None:
        await interaction.response.defer(ephemeral=True, thinking=True)
        picture = fields.get("picture")
        if picture is None:  # it was not asked for, where only one is shown
            shown = [image.index for image in await self._jobs.images(job_id) if image.showing.seen]
            index = shown[0] if len(shown) == 1 else None
        else:
            index = None if picture == ALL else int(picture)
        done = await self._casework.reports.report(job_id, index, interaction.user.id, fields["reason"])
        self._casework.wake()
        if done.hidden:
            self._jobs.reconsider(job_id)
        hidden = " Several people reported it, so it is hidden until then." if done.hidden else ""
        sentence = f"Thank you: the moderators of this server look at it.{hidden}"
        await interaction.edit_original_response(content=sentence)

    async def _appeal(self, interaction: discord.Interaction, case_id: int, reason: str) -> None:
        await interaction.response.defer(ephemeral=True, thinking=True)
        await self._casework.review.appeal(case_id, interaction.user.id, reason)
        self._casework.wake()
        sentence = "Moderators look at it again, and you hear from me what they decide."
        await interaction.edit_original_response(content=sentence)


def job_of(message: discord.Message) -> int:
    """The job that a message shows, by what its buttons say. Raises JobNotFound."""
    for custom_id in _custom_ids([component.to_dict() for component in message.components]):
        if found := _OF_JOB.fullmatch(custom_id):
            return int(found[1])
    raise JobNotFound("This message shows no picture of mine.")


def _custom_ids(components: Sequence[Any]) -> Iterator[str]:
    for component in components:
        if "custom_id" in component:
            yield component["custom_id"]
        yield from _custom_ids(component.get("components", []))


async def setup(bot: ImagineBot) -> None:
    bot.add_dynamic_items(ReportButton, AppealButton)
    await bot.add_cog(Reporting(bot))
