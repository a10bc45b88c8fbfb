"""The queue as a list: somebody's own jobs, or a server's for its moderators, with what may be done about them.

As with a job's message, a button's whole meaning is its custom_id, `queue:scope:verb:job`; a press becomes the event
`queue_button`, and `bot.commands.queue` answers it after it has checked anew who pressed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

import discord
from discord import ButtonStyle, ui

from bot.jobs.model import Closure, JobSnapshot, JobState
from bot.views import text

SHOWN = 8
"""Jobs in one list; more would pass Discord's 40 components."""


class Scope(StrEnum):
    MINE = "mine"
    ALL = "all"


class QueueVerb(StrEnum):
    CANCEL = "cancel"
    REFRESH = "refresh"
    PAUSE = "pause"
    DRAIN = "drain"
    RESUME = "resume"
    CLEAR = "clear"
    CONFIRM_CLEAR = "confirm"


@dataclass(frozen=True, slots=True)
class QueuePress:
    scope: Scope
    verb: QueueVerb
    job_id: int = 0

    @property
    def custom_id(self) -> str:
        return f"queue:{self.scope}:{self.verb}:{self.job_id}"


class QueueButton(
    discord.ui.DynamicItem[discord.ui.Button[Any]],
    template=rf"queue:(?P<scope>{'|'.join(Scope)}):(?P<verb>{'|'.join(QueueVerb)}):(?P<job>[0-9]{{1,18}})",
):
    def __init__(
        self, press: QueuePress, *, label: str | None = None, style: ButtonStyle = ButtonStyle.secondary
    ) -> None:
        self.press = press
        super().__init__(
            discord.ui.Button(label=label or press.verb.capitalize(), style=style, custom_id=press.custom_id)
        )

    @classmethod
    async def from_custom_id(
        cls, interaction: discord.Interaction, item: discord.ui.Item[Any], match: re.Match[str], /
    ) -> Self:
        return cls(QueuePress(Scope(match["scope"]), QueueVerb(match["verb"]), int(match["job"])))

    async def callback(self, interaction: discord.Interaction) -> None:
        interaction.client.dispatch("queue_button", interaction, self.press)


def render(
    scope: Scope, jobs: Sequence[JobSnapshot], count: int, closures: Mapping[int, Closure] | None = None
) -> ui.LayoutView:
    """A private message: the first of `count` jobs, in the order of their turns.

    `closures` are those of the server and of all servers, by `bot.jobs.closures.EVERYWHERE`.
    """
    body: ui.Container[ui.LayoutView] = ui.Container(accent_colour=0x3B82F6)
    title = "Your jobs" if scope is Scope.MINE else "This server's queue"
    body.add_item(ui.TextDisplay(f"### {title}\n{_state(count, closures or {})}"))
    for snapshot in jobs[:SHOWN]:
        cancel = QueueButton(QueuePress(scope, QueueVerb.CANCEL, snapshot.job.id))
        body.add_item(ui.Section(ui.TextDisplay(_entry(snapshot)), accessory=cancel))
    if count > len(jobs):
        body.add_item(ui.TextDisplay(f"-# and {count - len(jobs)} more"))
    body.add_item(ui.ActionRow(*_buttons(scope, closures or {})))
    view = ui.LayoutView(timeout=None)
    view.add_item(body)
    return view


def confirm_clear() -> ui.LayoutView:
    """Asks before every waiting job of the server is cancelled."""
    body: ui.Container[ui.LayoutView] = ui.Container(accent_colour=0xF23F43)
    body.add_item(ui.TextDisplay("### Clear the queue?\nThis cancels every waiting job of this server for good."))
    yes = QueueButton(QueuePress(Scope.ALL, QueueVerb.CONFIRM_CLEAR), label="Clear", style=ButtonStyle.danger)
    no = QueueButton(QueuePress(Scope.ALL, QueueVerb.REFRESH), label="Keep them")
    body.add_item(ui.ActionRow(yes, no))
    view = ui.LayoutView(timeout=None)
    view.add_item(body)
    return view


def _state(count: int, closures: Mapping[int, Closure]) -> str:
    line = text.counted(count, "job") if count else "Nothing is waiting or being drawn."
    if Closure.PAUSED in closures.values():
        return f"{line}\n⏸️ Paused: jobs keep their place and none is begun."
    if Closure.DRAINING in closures.values():
        return f"{line}\n⏏️ Draining: what waits is drawn and nothing new is taken."
    return line


def _entry(snapshot: JobSnapshot) -> str:
    job = snapshot.job
    prompt = f"**{text.quoted(job.options.prompt, 80)}** — <@{job.user_id}>"
    match job.state:
        case JobState.RUNNING:
            place = "being drawn"
        case JobState.HELD:
            place = "a moderator has to look at it first"
        case _:
            place = text.place(snapshot)
    return f"{prompt}\n-# {place}"


def _buttons(scope: Scope, closures: Mapping[int, Closure]) -> list[QueueButton]:
    verbs = [QueueVerb.REFRESH]
    if scope is Scope.ALL:
        verbs += [QueueVerb.RESUME] if closures else [QueueVerb.PAUSE, QueueVerb.DRAIN]
        verbs.append(QueueVerb.CLEAR)
    return [
        QueueButton(
            QueuePress(scope, verb), style=ButtonStyle.danger if verb is QueueVerb.CLEAR else ButtonStyle.secondary
        )
        for verb in verbs
    ]
