"""The buttons under a job's message.

A button's whole meaning is its custom_id, `verb:job:index`, so nothing needs to be remembered for it to work after a
restart, years later. A press becomes the event `job_button`; `bot.commands.buttons` answers it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

import discord
from discord import ButtonStyle


class Verb(StrEnum):
    UPSCALE = "u"
    VARY = "v"
    REROLL = "reroll"
    CANCEL = "cancel"
    DELETE = "delete"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Press:
    """What a button asks for; `index` counts pictures from 1, and is 0 where a button means the whole job."""

    verb: Verb
    job_id: int
    index: int = 0

    @property
    def custom_id(self) -> str:
        return f"{self.verb}:{self.job_id}:{self.index}"

    @property
    def label(self) -> str:
        if self.index:
            return f"{self.verb.upper()}{self.index}"
        return self.verb.capitalize()


_EMOJI = {Verb.REROLL: "🔄", Verb.INFO: "ℹ️", Verb.DELETE: "🗑️"}


class JobButton(
    discord.ui.DynamicItem[discord.ui.Button[Any]],
    template=rf"(?P<verb>{'|'.join(Verb)}):(?P<job>[0-9]{{1,18}}):(?P<index>[0-9])",
):
    """One button, made from a `Press` when a message is rendered and from its custom_id when somebody presses it."""

    def __init__(self, press: Press, *, label: str | None = None, style: ButtonStyle = ButtonStyle.secondary) -> None:
        self.press = press
        button: discord.ui.Button[Any] = discord.ui.Button(
            label=label or press.label, style=style, custom_id=press.custom_id, emoji=_EMOJI.get(press.verb)
        )
        super().__init__(button)

    @classmethod
    async def from_custom_id(
        cls, interaction: discord.Interaction, item: discord.ui.Item[Any], match: re.Match[str], /
    ) -> Self:
        return cls(Press(Verb(match["verb"]), int(match["job"]), int(match["index"])))

    async def callback(self, interaction: discord.Interaction) -> None:
        interaction.client.dispatch("job_button", interaction, self.press)
