"""The one message that tells how a change of checkpoints goes, and what its buttons mean.

As with a job's message, a button's whole meaning is its custom_id, `change:verb:id`; a press becomes the event
`change_button`, and `bot.commands.checkpoint` answers it after it has checked anew who pressed.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

import discord
from discord import ButtonStyle, ui

from bot.jobs.changes import Change, ChangeKind, ChangeState
from bot.jobs.switching import Standing, Step, Switched
from bot.views import pictures, text
from t2i.api import Accomplished, Advanced, Stage

BLUE, GREEN, RED, GREY = 0x3B82F6, 0x23A55A, 0xF23F43, 0x4E5058

_STEPS = {
    Step.CHECKING: "Comparing every file with its hash",
    Step.LOADING: "Loading it beside what draws now",
    Step.DRAWING: "Drawing a picture to try it",
}
_STAGES: dict[Stage, str] = {
    "downloading": "Downloading",
    "checking": "Comparing every file with its hash",
    "copying": "Copying",
    "hashing": "Reading what was copied",
}
_TITLES = {
    ChangeKind.SWITCH: "Switching to {}",
    ChangeKind.ROLLBACK: "Going back to {}",
    ChangeKind.RELOAD: "Loading {} anew",
    ChangeKind.ADD: "Adding {}",
    ChangeKind.REMOVE: "Removing {}",
}


class ChangeVerb(StrEnum):
    ROLLBACK = "rollback"
    INFO = "info"
    USE = "use"
    REMOVE = "remove"
    KEEP = "keep"
    CANCEL = "cancel"


@dataclass(frozen=True, slots=True)
class ChangePress:
    verb: ChangeVerb
    change_id: int

    @property
    def custom_id(self) -> str:
        return f"change:{self.verb}:{self.change_id}"


class ChangeButton(
    discord.ui.DynamicItem[discord.ui.Button[Any]],
    template=rf"change:(?P<verb>{'|'.join(ChangeVerb)}):(?P<change>[0-9]{{1,18}})",
):
    def __init__(
        self, press: ChangePress, *, label: str | None = None, style: ButtonStyle = ButtonStyle.secondary
    ) -> None:
        self.press = press
        super().__init__(
            discord.ui.Button(label=label or press.verb.capitalize(), style=style, custom_id=press.custom_id)
        )

    @classmethod
    async def from_custom_id(
        cls, interaction: discord.Interaction, item: discord.ui.Item[Any], match: re.Match[str], /
    ) -> Self:
        return cls(ChangePress(ChangeVerb(match["verb"]), int(match["change"])))

    async def callback(self, interaction: discord.Interaction) -> None:
        interaction.client.dispatch("change_button", interaction, self.press)


@dataclass(frozen=True, slots=True)
class Shown:
    view: ui.LayoutView
    files: Sequence[discord.File] = ()


def standing(change: Change, name: str, now: Standing) -> Shown:
    """How far a switch is, and who waits for it."""
    if now.ahead is not None:
        ahead = now.ahead.checkpoint
        what = f"**{text.quoted(ahead, 60)}**" if ahead else "the bot's own checkpoint"
        return _message(change, name, f"🕓 <@{now.ahead.user_id}> is at it with {what}; this comes next.")
    line = f"{text.bar(now.fraction)} {_STEPS.get(now.step, 'Waiting its turn')}"
    after = ", ".join(f"<@{follower.user_id}>" for follower in now.following)
    note = f"\n-# {after} asked for a change meanwhile, which comes next." if after else ""
    return _message(change, name, f"{line}{note}")


def advanced(change: Change, name: str, now: Advanced | None) -> Shown:
    """How far the files are."""
    if now is None:
        return _message(change, name, f"{text.bar(0)} Looking at it")
    share = now.done / now.total if now.total else 0.0
    return _message(
        change, name, f"{text.bar(share)} {_STAGES[now.stage]} · {now.done / 1e6:.0f} of {_size(now.total)}"
    )


def switched(name: str, done: Switched, *, covered: bool = False) -> Shown:
    """What draws now, the picture that proved it unless it is `covered`, and the way back."""
    change = done.change
    took = f"ready after {text.duration(done.loading)}, one picture in {text.duration(done.drawing)}"
    until = f" until {discord.utils.format_dt(change.until, 'f')}" if change.until else ""
    shown = f"**{text.quoted(name, 60)}**"
    sentence = {
        ChangeKind.RELOAD: f"{shown} was read anew; jobs that were being drawn end on what it was before.",
        ChangeKind.ROLLBACK: f"This server draws with {shown} again.",
    }.get(change.kind, f"This server draws with {shown}{until}.")
    body = _body(GREEN, f"{sentence}\n-# by <@{change.user_id}> · every file checked · {took}")
    files = [] if covered else [_proof(name, done.picture)]
    for file in files:
        gallery: ui.MediaGallery[Any] = ui.MediaGallery()
        gallery.add_item(media=file, description=file.description)
        body.add_item(gallery)
    if covered:
        body.add_item(ui.TextDisplay("-# The picture that it was tried with is not for a channel like this one."))
    buttons = [ChangeButton(ChangePress(ChangeVerb.INFO, change.id))]
    if change.kind is not ChangeKind.RELOAD:
        buttons.insert(0, ChangeButton(ChangePress(ChangeVerb.ROLLBACK, change.id), label="Roll back"))
    body.add_item(ui.ActionRow(*buttons))
    return Shown(_view(body), files)


def _proof(name: str, picture: bytes) -> discord.File:
    shown = io.BytesIO(pictures.for_display(picture, "png"))
    return discord.File(shown, "try.png", description=f"A picture drawn by {name} to try it")


def added(change: Change, done: Accomplished) -> Shown:
    what = f"**{text.quoted(done.name, 60)}**"
    if done.lora:
        return Shown(
            _view(_body(GREEN, f"The LoRA {what} is here.\n-# by <@{change.user_id}> · `/lora list` shows it"))
        )
    body = _body(GREEN, f"{what} is here: `/checkpoint use` switches to it.\n-# by <@{change.user_id}>")
    use = ChangeButton(ChangePress(ChangeVerb.USE, change.id), label="Use it here", style=ButtonStyle.primary)
    body.add_item(ui.ActionRow(use, ChangeButton(ChangePress(ChangeVerb.INFO, change.id))))
    return Shown(_view(body))


def confirm_remove(change: Change, name: str) -> Shown:
    body = _body(RED, f"### Remove {text.quoted(name, 60)}?\nIts files are deleted for every server, for good.")
    yes = ChangeButton(ChangePress(ChangeVerb.REMOVE, change.id), label="Delete", style=ButtonStyle.danger)
    no = ChangeButton(ChangePress(ChangeVerb.KEEP, change.id), label="Keep it")
    body.add_item(ui.ActionRow(yes, no))
    return Shown(_view(body))


def removed(name: str) -> Shown:
    return Shown(_view(_body(GREY, f"**{text.quoted(name, 60)}** is deleted.")))


def left(name: str) -> Shown:
    return Shown(_view(_body(GREY, f"**{text.quoted(name, 60)}** stays.")))


def failed(change: Change, name: str, sentence: str, current: str | None = None) -> Shown:
    """Why nothing came of it, and what is as before."""
    after = (
        f"\nThis server draws with **{text.quoted(current, 60)}** as before." if current else "\nNothing was changed."
    )
    title = _TITLES[change.kind].format(f"**{text.quoted(name, 60)}**")
    return Shown(_view(_body(RED, f"⚠️ {title} came to nothing: {text.quoted(sentence, 1000)}{after}")))


def late(change: Change, name: str) -> Shown:
    """How a change ended, told after the bot was started again."""
    title = _TITLES[change.kind].format(f"**{text.quoted(name, 60)}**")
    match change.state:
        case ChangeState.DONE:
            return Shown(_view(_body(GREEN, f"{title} is done.\n-# by <@{change.user_id}>")))
        case ChangeState.INTERRUPTED:
            ending = "was cut off when the bot stopped. Nothing was changed; ask for it again."
            return Shown(_view(_body(GREY, f"{title} {ending}")))
    return failed(change, name, change.error or "the reason is not known")


def _message(change: Change, name: str, line: str) -> Shown:
    title = _TITLES[change.kind].format(f"**{text.quoted(name, 60)}**")
    body = _body(BLUE, f"{title} — <@{change.user_id}>\n{line}")
    body.add_item(ui.ActionRow(ChangeButton(ChangePress(ChangeVerb.CANCEL, change.id))))
    return Shown(_view(body))


def _body(colour: int, content: str) -> ui.Container[Any]:
    body: ui.Container[Any] = ui.Container(accent_colour=colour)
    body.add_item(ui.TextDisplay(content))
    return body


def _view(body: ui.Container[Any]) -> ui.LayoutView:
    view = ui.LayoutView(timeout=None)
    view.add_item(body)
    return view


def _size(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
