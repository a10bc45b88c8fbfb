"""/review and the buttons of cases: moderators decide here, and who may is asked anew at every press."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import discord
from discord import app_commands
from discord.ext import commands

from bot.commands import until
from bot.commands.errors import report
from bot.commands.forms import submitted
from bot.commands.hierarchy import require_above
from bot.commands.moderating import Moderating
from bot.errors import CaseNotFound, PicturesGone
from bot.moderation.cases import CaseKind, Decision
from bot.moderation.docket import CaseFile
from bot.moderation.review import Verdict, require_open
from bot.views import cases as view
from bot.views.cases import CaseButton, CasePress, CaseVerb

if TYPE_CHECKING:
    from bot.client import ImagineBot

COMMAND = "review"
LISTED = 10


@app_commands.guild_install()
@app_commands.guild_only()
@app_commands.default_permissions(manage_messages=True)
class Review(commands.GroupCog, group_name=COMMAND):
    """What waits for a moderator's decision."""

    def __init__(self, bot: ImagineBot) -> None:
        self._jobs = bot.services.jobs
        self._casework = bot.services.casework
        self._moderating = Moderating(bot)

    async def cog_load(self) -> None:
        self._casework.start()

    async def cog_unload(self) -> None:
        await self._casework.stop()

    @app_commands.command(name="list")
    async def show(self, interaction: discord.Interaction) -> None:
        """Show the cases that wait for a decision (moderators)."""
        guild_id = await self._moderating.require(interaction, COMMAND)
        cases, count = await self._casework.docket.open_of(guild_id, limit=LISTED)
        await interaction.response.send_message(view=view.listed(cases, count), ephemeral=True)

    @commands.Cog.listener()
    async def on_case_button(self, interaction: discord.Interaction, press: CasePress) -> None:
        try:
            file = await self._file(interaction, press.case_id)
            match press.verb:
                case CaseVerb.OPEN:
                    await self._open(interaction, file)
                case CaseVerb.LOOK:
                    await self._look(interaction, file)
                case CaseVerb.TAKE_BACK:
                    await interaction.response.send_modal(view.take_back_form(file.case))
                case _:
                    await self._press(interaction, file, Decision(press.verb))
        except Exception as error:
            await report(interaction, error)

    @commands.Cog.listener()
    async def on_interaction(self, interaction: discord.Interaction) -> None:
        try:
            if filled := submitted(interaction, rf"verdict:({'|'.join(Decision)}):(\d{{1,18}})"):
                form, fields = filled
                file = await self._file(interaction, int(form[2]))
                await self._decide(interaction, file, Decision(form[1]), fields)
            elif filled := submitted(interaction, r"take-back:(\d{1,18})"):
                form, fields = filled
                file = await self._file(interaction, int(form[1]))
                await interaction.response.defer()
                await self._casework.review.take_back(file.case.id, interaction.user.id, fields["note"])
                await self._tell(interaction, file)
        except Exception as error:
            await report(interaction, error)

    async def _file(self, interaction: discord.Interaction, case_id: int) -> CaseFile:
        """For moderators of its server alone. Raises NotAllowed or CaseNotFound."""
        guild_id = await self._moderating.require(interaction, COMMAND)
        file = await self._casework.docket.look(case_id)
        if file.case.guild_id != guild_id:
            raise CaseNotFound("That case is of another server.")
        return file

    async def _open(self, interaction: discord.Interaction, file: CaseFile) -> None:
        await interaction.response.defer(ephemeral=True, thinking=True)
        shown = await asyncio.to_thread(lambda: view.render(file, self._casework.originals(file)))
        await interaction.edit_original_response(view=shown.view, attachments=shown.files)

    async def _look(self, interaction: discord.Interaction, file: CaseFile) -> None:
        await interaction.response.defer(ephemeral=True, thinking=True)
        pictures = await asyncio.to_thread(self._casework.originals, file)
        if not pictures:
            raise PicturesGone("The pictures of this case are gone.")
        shown = await asyncio.to_thread(view.look, file, pictures)
        await interaction.edit_original_response(view=shown.view, attachments=shown.files)

    async def _press(self, interaction: discord.Interaction, file: CaseFile, decision: Decision) -> None:
        """What takes something from somebody asks first what they are to be told."""
        require_open(file.case, file.appealed, self._verdict(interaction, decision))
        if decision.removes or file.case.kind is CaseKind.APPEAL:
            await self._require_above(interaction, file, decision)
            await interaction.response.send_modal(view.note_form(file.case, decision))
        else:
            await self._decide(interaction, file, decision, {})

    async def _decide(
        self, interaction: discord.Interaction, file: CaseFile, decision: Decision, fields: dict[str, str]
    ) -> None:
        lasts = until.parse(fields["span"], datetime.now(UTC)) if decision is Decision.TIME_OUT else None
        verdict = self._verdict(interaction, decision, fields.get("note", ""), lasts)
        await interaction.response.defer()
        await self._require_above(interaction, file, decision)
        await self._casework.review.decide(file.case.id, verdict)
        await self._tell(interaction, file)

    async def _tell(self, interaction: discord.Interaction, file: CaseFile) -> None:
        """Of what was decided, without waiting for the next look at what is to be told."""
        self._casework.wake()
        if file.case.job_id is not None:
            self._jobs.reconsider(file.case.job_id)
        if interaction.message is not None and interaction.message.flags.ephemeral:
            shown = view.render(await self._casework.docket.look(file.case.id))
            await interaction.edit_original_response(view=shown.view, attachments=[])

    def _verdict(
        self, interaction: discord.Interaction, decision: Decision, note: str = "", lasts: datetime | None = None
    ) -> Verdict:
        assert interaction.guild is not None, "cases are of servers"
        owner = interaction.user.id == interaction.guild.owner_id
        return Verdict(decision, interaction.user.id, note, lasts, owner=owner)

    async def _require_above(self, interaction: discord.Interaction, file: CaseFile, decision: Decision) -> None:
        if decision in (Decision.TIME_OUT, Decision.BAN):
            await require_above(interaction, file.case.user_id)


async def setup(bot: ImagineBot) -> None:
    bot.add_dynamic_items(CaseButton)
    await bot.add_cog(Review(bot))
