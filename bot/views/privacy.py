"""What is kept about people, and the questions before any of it is deleted.

A button's whole meaning is its custom_id, `data:verb:user`; a press becomes the event `data_button`, and
`bot.commands.privacy` answers it after it has checked anew who pressed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

import discord
from discord import ButtonStyle, ui

from bot.views import text

STATEMENT = (
    """### What this bot keeps about you
**Your jobs**: prompts, options, when and where you asked, and the pictures with the data to upscale and vary them. \
They are on the computer of whoever runs this bot, until you, a moderator or the server's retention deletes them.
**GPU time**: how many seconds each job took, for the quotas; 31 days.
**Moderation**: cases about your pictures and prompts, decisions and their reasons, reports that you wrote, whether \
you may draw, which terms you accepted, and what the bot wrote to you (31 days). A picture that was removed is deleted \
a week after the decision; a fingerprint of it, which shows nothing, is kept so that it does not come back.
**The audit log** of what moderators and managers did names people by pseudonyms. Nobody can delete entries.""",
    """### What it does not keep
Messages that are not commands: the bot cannot read them. Prompts are not in its log files. Nothing is sent to \
anybody but Discord, and pictures are drawn and judged on the bot's own computer.""",
    """### What you can do
`/privacy export` gives you a copy of all of it · `/privacy erase` deletes it for good: jobs, pictures, prompts, and \
the messages that show them. What stays then is a ban or time-out that holds, and until midnight (UTC) the GPU time \
you used today; the log keeps its entries, and nothing tells any more that a pseudonym was you.""",
)


class DataVerb(StrEnum):
    ERASE = "erase"
    """Everything that is kept about a person; they alone may say so."""
    PURGE = "purge"
    """A person's results in this server; for moderators."""
    KEEP = "keep"


@dataclass(frozen=True, slots=True)
class DataPress:
    verb: DataVerb
    user_id: int


class DataButton(
    discord.ui.DynamicItem[discord.ui.Button[Any]],
    template=rf"data:(?P<verb>{'|'.join(DataVerb)}):(?P<user>[0-9]{{1,20}})",
):
    def __init__(self, press: DataPress, *, label: str, style: ButtonStyle = ButtonStyle.secondary) -> None:
        self.press = press
        custom_id = f"data:{press.verb}:{press.user_id}"
        super().__init__(discord.ui.Button(label=label, style=style, custom_id=custom_id))

    @classmethod
    async def from_custom_id(
        cls, interaction: discord.Interaction, item: discord.ui.Item[Any], match: re.Match[str], /
    ) -> Self:
        return cls(DataPress(DataVerb(match["verb"]), int(match["user"])), label=match["verb"])

    async def callback(self, interaction: discord.Interaction) -> None:
        interaction.client.dispatch("data_button", interaction, self.press)


def statement(retention_days: int | None) -> ui.LayoutView:
    """`retention_days` is how long prompts and pictures are kept here, where somebody set that."""
    body: ui.Container[ui.LayoutView] = ui.Container(accent_colour=0x3B82F6)
    for section in STATEMENT:
        body.add_item(ui.TextDisplay(section))
    if retention_days is not None:
        days = text.counted(retention_days, "day")
        body.add_item(ui.TextDisplay(f"-# Prompts and pictures are deleted after {days} here."))
    return _alone(body)


def confirm_erase(user_id: int) -> ui.LayoutView:
    return _asked(
        "### Erase your data?\nYour jobs, prompts and pictures on every server are deleted for good, and the messages "
        "that show them. `/privacy export` gives you a copy first.",
        DataPress(DataVerb.ERASE, user_id),
        "Erase everything",
    )


def confirm_purge(user_id: int) -> ui.LayoutView:
    return _asked(
        f"### Delete all results of <@{user_id}>?\nTheir jobs, prompts and pictures of this server are deleted for "
        "good, and the messages that show them.",
        DataPress(DataVerb.PURGE, user_id),
        "Delete them",
    )


def told(sentence: str) -> ui.LayoutView:
    body: ui.Container[ui.LayoutView] = ui.Container(accent_colour=0x4E5058)
    body.add_item(ui.TextDisplay(sentence))
    return _alone(body)


def _asked(question: str, press: DataPress, label: str) -> ui.LayoutView:
    body: ui.Container[ui.LayoutView] = ui.Container(accent_colour=0xF23F43)
    body.add_item(ui.TextDisplay(question))
    yes = DataButton(press, label=label, style=ButtonStyle.danger)
    body.add_item(ui.ActionRow(yes, DataButton(DataPress(DataVerb.KEEP, press.user_id), label="Keep them")))
    return _alone(body)


def _alone(body: ui.Container[ui.LayoutView]) -> ui.LayoutView:
    view = ui.LayoutView(timeout=None)
    view.add_item(body)
    return view
