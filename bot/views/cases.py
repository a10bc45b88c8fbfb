"""A case as moderators see it: what it is about, who said what, and the buttons that decide it.

As with a job's message, a button's whole meaning is its custom_id, `case:verb:id`; a press becomes the event
`case_button`, and `bot.commands.review` answers it after it has checked anew who pressed.
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
from PIL import Image, ImageFilter

from bot.jobs.delivery import Rendered
from bot.jobs.model import Job
from bot.moderation.cases import Case, CaseKind, CaseState, Decision
from bot.moderation.docket import CaseFile, Report
from bot.moderation.review import choices
from bot.views import pictures, text

AMBER, GREEN, RED, GREY = 0xF0B232, 0x23A55A, 0xF23F43, 0x4E5058

SHOWN_REPORTS = 5
THUMBNAIL, BLUR = 256, 12
"""Pixels of a thumbnail's longer side, and the radius that leaves colours and masses, and no detail."""

_TITLES = {
    CaseKind.PROMPT: "A prompt waits",
    CaseKind.PICTURE: "A picture waits",
    CaseKind.REPORT: "Reported",
    CaseKind.APPEAL: "An appeal",
}
_LABELS = {
    Decision.APPROVE: "Approve",
    Decision.SPOILER: "Spoiler",
    Decision.REMOVE: "Remove",
    Decision.TIME_OUT: "Remove + time out",
    Decision.BAN: "Remove + ban",
}
_LABELS_OF_KIND = {
    CaseKind.PROMPT: {
        Decision.APPROVE: "Draw it",
        Decision.REMOVE: "Refuse",
        Decision.TIME_OUT: "Refuse + time out",
        Decision.BAN: "Refuse + ban",
    },
    CaseKind.APPEAL: {
        Decision.APPROVE: "Take it back",
        Decision.SPOILER: "Show as spoiler",
        Decision.REMOVE: "Keep the decision",
    },
}
_STYLES = {Decision.APPROVE: ButtonStyle.success, Decision.SPOILER: ButtonStyle.secondary}
_DECIDED = {
    Decision.APPROVE: "✅ Approved",
    Decision.SPOILER: "◼️ Put behind a spoiler",
    Decision.REMOVE: "🗑️ Removed",
    Decision.TIME_OUT: "🗑️ Removed, and its author timed out",
    Decision.BAN: "🗑️ Removed, and its author banned from the bot",
}
_APPEAL_DECIDED = {Decision.APPROVE: "✅ Taken back", Decision.SPOILER: "✅ Taken back, behind a spoiler"}


class CaseVerb(StrEnum):
    OPEN = "open"
    """Show the whole case, to somebody who looks at a list."""
    LOOK = "look"
    """Show the pictures as they are."""
    TAKE_BACK = "take-back"
    """Look again at what was decided, unasked."""
    APPROVE = Decision.APPROVE
    SPOILER = Decision.SPOILER
    REMOVE = Decision.REMOVE
    TIME_OUT = Decision.TIME_OUT
    BAN = Decision.BAN


@dataclass(frozen=True, slots=True)
class CasePress:
    verb: CaseVerb
    case_id: int

    @property
    def custom_id(self) -> str:
        return f"case:{self.verb}:{self.case_id}"


class CaseButton(
    discord.ui.DynamicItem[discord.ui.Button[Any]],
    template=rf"case:(?P<verb>{'|'.join(CaseVerb)}):(?P<case>[0-9]{{1,18}})",
):
    def __init__(self, press: CasePress, *, label: str, style: ButtonStyle = ButtonStyle.secondary) -> None:
        self.press = press
        super().__init__(discord.ui.Button(label=label, style=style, custom_id=press.custom_id))

    @classmethod
    async def from_custom_id(
        cls, interaction: discord.Interaction, item: discord.ui.Item[Any], match: re.Match[str], /
    ) -> Self:
        return cls(CasePress(CaseVerb(match["verb"]), int(match["case"])), label=match["verb"])

    async def callback(self, interaction: discord.Interaction) -> None:
        interaction.client.dispatch("case_button", interaction, self.press)


def render(file: CaseFile, originals: Sequence[bytes] = ()) -> Rendered:
    """The message of a case. `originals` are its pictures as PNG; what is shown of them is blurred, behind a spoiler,
    and only while there is something to decide."""
    case = file.case
    body: ui.Container[ui.LayoutView] = ui.Container(accent_colour=_colour(case))
    body.add_item(ui.TextDisplay(_heading(file)))
    if file.job is not None:
        room = 300 if case.state is not CaseState.OPEN else 900 if file.reports else 1500
        body.add_item(ui.TextDisplay(_prompts(file.job, room)))
    if file.reports:
        body.add_item(ui.TextDisplay(_reports(file.reports)))
    files: list[discord.File] = []
    if case.state is CaseState.OPEN:
        files = [discord.File(io.BytesIO(blurred(data)), f"{n}.webp") for n, data in enumerate(originals)]
        if files:
            body.add_item(_gallery(files))
        _add_buttons(body, case, look=bool(files))
    else:
        body.add_item(ui.TextDisplay(_outcome(case)))
        if file.appeal is not None:
            body.add_item(ui.TextDisplay(_looked_again(file.appeal)))
        elif case.decision is not None and case.decision.removes and case.kind is not CaseKind.APPEAL:
            button = CaseButton(CasePress(CaseVerb.TAKE_BACK, case.id), label="Take back")
            body.add_item(ui.ActionRow(button))
    return Rendered(_view(body), files)


def look(file: CaseFile, originals: Sequence[bytes]) -> Rendered:
    """The pictures as they are, behind spoilers, for one moderator alone."""
    body: ui.Container[ui.LayoutView] = ui.Container(accent_colour=_colour(file.case))
    body.add_item(ui.TextDisplay(f"The pictures of case {file.case.id}, as they are:"))
    files = [
        discord.File(io.BytesIO(pictures.for_display(data, "webp")), f"{n}.webp") for n, data in enumerate(originals)
    ]
    body.add_item(_gallery(files))
    return Rendered(_view(body), files)


def listed(cases: Sequence[Case], count: int) -> ui.LayoutView:
    """The oldest open cases, each with a button that shows it."""
    body: ui.Container[ui.LayoutView] = ui.Container(accent_colour=AMBER if cases else GREEN)
    if not cases:
        body.add_item(ui.TextDisplay("Nothing waits for a decision."))
        return _view(body)
    body.add_item(ui.TextDisplay(f"### {text.counted(count, 'case')} to decide, the oldest first"))
    for case in cases:
        opened = discord.utils.format_dt(case.opened_at, "R")
        line = f"**Case {case.id}** · {_TITLES[case.kind]} · <@{case.user_id}> · {opened}"
        button = CaseButton(CasePress(CaseVerb.OPEN, case.id), label="Open")
        body.add_item(ui.Section(ui.TextDisplay(line), accessory=button))
    return _view(body)


def note_form(case: Case, decision: Decision) -> ui.Modal:
    """Asks why, and for a time-out how long."""
    form = _form(f"{label(case, decision)}: case {case.id}", f"verdict:{decision}:{case.id}")
    if decision is Decision.TIME_OUT:
        span: ui.TextInput[Any] = ui.TextInput(custom_id="span", default="1 day", max_length=20)
        form.add_item(ui.Label(text="How long", description="Such as 2 h, 3 days or 1 week.", component=span))
    return form


def take_back_form(case: Case) -> ui.Modal:
    return _form(f"Take back: case {case.id}", f"take-back:{case.id}")


def _form(title: str, custom_id: str) -> ui.Modal:
    form = ui.Modal(title=title, custom_id=custom_id)
    note: ui.TextInput[Any] = ui.TextInput(
        custom_id="note", style=discord.TextStyle.paragraph, max_length=300, required=False
    )
    form.add_item(ui.Label(text="Why", description="The author reads this.", component=note))
    return form


def label(case: Case, decision: Decision) -> str:
    return _LABELS_OF_KIND.get(case.kind, _LABELS)[decision]


def blurred(picture: bytes) -> bytes:
    """WebP of what is left when every detail is gone."""
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    if max(image.size) < THUMBNAIL:
        scale = THUMBNAIL / max(image.size)
        image = image.resize((round(image.width * scale), round(image.height * scale)))
    out = io.BytesIO()
    image.filter(ImageFilter.GaussianBlur(BLUR)).save(out, "webp", quality=60)
    return out.getvalue()


def _heading(file: CaseFile) -> str:
    case, job = file.case, file.job
    lines = [f"### Case {case.id} · {_TITLES[case.kind]}"]
    where = [f"by <@{case.user_id}>"]
    if job is not None:
        where += [_link(job, f"job {job.id}"), f"<#{job.channel_id}>"]
    if case.kind is not CaseKind.PROMPT:
        where.append("all pictures" if case.index is None else f"picture {case.index + 1}")
    if case.score is not None:
        where.append(f"score {case.score:.2f}")
    where.append(discord.utils.format_dt(case.opened_at, "R"))
    lines.append(" · ".join(where))
    lines.append(f"> {_cut(case.reason, 400)}")
    if file.parent is not None:
        lines.append(f"-# made from {_link(file.parent, f'job {file.parent.id}')} by <@{file.parent.user_id}>")
    if file.children:
        lines.append(f"-# made of it: {', '.join(_link(child, f'job {child.id}') for child in file.children)}")
    if file.appealed is not None:
        first = file.appealed
        note = f": {_cut(first.note, 300)}" if first.note else ""
        lines.append(f"-# case {first.id} was decided by <@{first.decided_by}>, {first.decision}{note}")
    return "\n".join(lines)


def _prompts(job: Job, room: int) -> str:
    told = f"Prompt: ||{_cut(job.options.prompt, room)}||"
    if job.options.negative_prompt:
        told += f"\nNegative: ||{_cut(job.options.negative_prompt, room // 3)}||"
    return told


def _reports(reports: Sequence[Report]) -> str:
    lines = [f"**{text.counted(len(reports), 'report')}**"]
    for report in reports[:SHOWN_REPORTS]:
        record = report.record
        known = f"{record.unfounded} of {record.decided} earlier unfounded" if record.decided else "no earlier ones"
        lines.append(f"- <@{report.user_id}>: {_cut(report.reason, 100)} ({known})")
    if len(reports) > SHOWN_REPORTS:
        lines.append(f"- and {len(reports) - SHOWN_REPORTS} more")
    return "\n".join(lines)


def _add_buttons(body: ui.Container[Any], case: Case, *, look: bool) -> None:
    buttons = [
        CaseButton(
            CasePress(CaseVerb(decision), case.id),
            label=label(case, decision),
            style=_STYLES.get(decision, ButtonStyle.danger),
        )
        for decision in choices(case)
    ]
    body.add_item(ui.ActionRow(*buttons))
    if look:
        body.add_item(ui.ActionRow(CaseButton(CasePress(CaseVerb.LOOK, case.id), label="Look")))


def _outcome(case: Case) -> str:
    if case.decision is None or case.decided_at is None:
        return "There is nothing left to decide: it was cancelled or deleted."
    decided = _DECIDED[case.decision]
    if case.kind is CaseKind.APPEAL:
        decided = _APPEAL_DECIDED.get(case.decision, "The decision stays")
    elif case.kind is CaseKind.PROMPT:
        decided = decided.replace("Removed", "Refused").replace("its author", "the author")
    when = discord.utils.format_dt(case.decided_at, "f")
    note = f"\n> {_cut(case.note, 300)}" if case.note else ""
    return f"**{decided}** by <@{case.decided_by}> · {when}{note}"


def _looked_again(appeal: Case) -> str:
    return f"-# looked at again in case {appeal.id}" if appeal.state is CaseState.OPEN else _outcome(appeal)


def _colour(case: Case) -> int:
    if case.state is CaseState.OPEN:
        return AMBER
    if case.decision is None:
        return GREY
    return RED if case.decision.removes else GREEN


def _cut(words: str, room: int) -> str:
    """Quoted in at most so many characters, those that take a meaning from others among them."""
    shown = text.quoted(words, room)
    return shown if len(shown) <= room else text.quoted(words, room // 2)


def _link(job: Job, words: str) -> str:
    if job.message_id is None:
        return words
    return f"[{words}](https://discord.com/channels/{job.guild_id or '@me'}/{job.channel_id}/{job.message_id})"


def _gallery(files: Sequence[discord.File]) -> ui.MediaGallery[Any]:
    gallery: ui.MediaGallery[Any] = ui.MediaGallery()
    for number, file in enumerate(files, start=1):
        gallery.add_item(media=file, description=f"Picture {number} of the case", spoiler=True)
    return gallery


def _view(body: ui.Container[ui.LayoutView]) -> ui.LayoutView:
    view = ui.LayoutView(timeout=None)
    view.add_item(body)
    return view
