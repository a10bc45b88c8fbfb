"""What members see of moderation: the report of a picture, the notice of a decision, and the appeal against it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Self

import discord
from discord import ui

from bot.jobs.model import Job, StoredImage
from bot.moderation.notices import Notice

LONGEST_REASON = 300
ALL = "all"


class ReportButton(discord.ui.DynamicItem[discord.ui.Button[Any]], template=r"report:(?P<job>[0-9]{1,18})"):
    """Under every finished message of a server; a press becomes the event `report_button`."""

    def __init__(self, job_id: int) -> None:
        self.job_id = job_id
        super().__init__(discord.ui.Button(label="Report", emoji="🚩", custom_id=f"report:{job_id}"))

    @classmethod
    async def from_custom_id(
        cls, interaction: discord.Interaction, item: discord.ui.Item[Any], match: re.Match[str], /
    ) -> Self:
        return cls(int(match["job"]))

    async def callback(self, interaction: discord.Interaction) -> None:
        interaction.client.dispatch("report_button", interaction, self.job_id)


class AppealButton(discord.ui.DynamicItem[discord.ui.Button[Any]], template=r"appeal:(?P<case>[0-9]{1,18})"):
    """Where the author reads of a decision; a press becomes the event `appeal_button`."""

    def __init__(self, case_id: int) -> None:
        self.case_id = case_id
        super().__init__(discord.ui.Button(label="Appeal", custom_id=f"appeal:{case_id}"))

    @classmethod
    async def from_custom_id(
        cls, interaction: discord.Interaction, item: discord.ui.Item[Any], match: re.Match[str], /
    ) -> Self:
        return cls(int(match["case"]))

    async def callback(self, interaction: discord.Interaction) -> None:
        interaction.client.dispatch("appeal_button", interaction, self.case_id)


def report_form(job: Job, images: Sequence[StoredImage]) -> ui.Modal:
    """Asks for the reason and, of several pictures that are shown, which one."""
    form = ui.Modal(title=f"Report: job {job.id}", custom_id=f"report:{job.id}")
    shown = [image.index for image in images if image.showing.seen]
    if len(shown) > 1:
        picture: ui.Select[Any] = ui.Select(custom_id="picture")
        picture.add_option(label="All of them", value=ALL, default=True)
        for index in shown:
            picture.add_option(label=f"Picture {index + 1}", value=str(index))
        form.add_item(ui.Label(text="Which", component=picture))
    form.add_item(ui.Label(text="Reason", description="Moderators read this.", component=_reason()))
    return form


def appeal_form(case_id: int) -> ui.Modal:
    form = ui.Modal(title="Appeal", custom_id=f"appeal:{case_id}")
    form.add_item(ui.Label(text="Reason", description="Why they should decide otherwise.", component=_reason()))
    return form


def notice(notice: Notice) -> ui.LayoutView:
    """A direct message about a decision, with the way to appeal where there is one."""
    view = ui.LayoutView(timeout=None)
    body: ui.Container[ui.LayoutView] = ui.Container(ui.TextDisplay(discord.utils.escape_mentions(notice.content)))
    if notice.case_id is not None and notice.appealable:
        body.add_item(ui.ActionRow(AppealButton(notice.case_id)))
    view.add_item(body)
    return view


def _reason() -> ui.TextInput[Any]:
    return ui.TextInput(custom_id="reason", style=discord.TextStyle.paragraph, max_length=LONGEST_REASON)
