"""A server's terms, and the button by which a member accepts them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Self

import discord

from bot.errors import TermsNotAccepted


@dataclass(frozen=True, slots=True)
class TermsPress:
    """Accepts that version of that server's terms."""

    guild_id: int
    version: int


class TermsButton(
    discord.ui.DynamicItem[discord.ui.Button[Any]],
    template=r"terms:(?P<guild>[0-9]{1,20}):(?P<version>[0-9]{1,9})",
):
    def __init__(self, press: TermsPress) -> None:
        self.press = press
        custom_id = f"terms:{press.guild_id}:{press.version}"
        super().__init__(discord.ui.Button(label="Accept", style=discord.ButtonStyle.success, custom_id=custom_id))

    @classmethod
    async def from_custom_id(
        cls, interaction: discord.Interaction, item: discord.ui.Item[Any], match: re.Match[str], /
    ) -> Self:
        return cls(TermsPress(int(match["guild"]), int(match["version"])))

    async def callback(self, interaction: discord.Interaction) -> None:
        interaction.client.dispatch("terms_button", interaction, self.press)


def ask(missing: TermsNotAccepted) -> discord.ui.View:
    """The button that goes with what it says."""
    view = discord.ui.View(timeout=None)
    view.add_item(TermsButton(TermsPress(missing.guild_id, missing.version)))
    return view
