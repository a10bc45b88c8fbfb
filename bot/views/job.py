"""A job's one message, as a pure function of the job at one moment.

held       that a moderator has to look          Cancel
queued     position                              Cancel
running    bar, percent, step i of n, preview    Cancel
done       the pictures, facts                   U1-U4, V1-V4, Reroll, Info, Report, Delete
failed     one sentence                          Try again, Delete
cancelled                                        Try again, Delete
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import discord
from discord import ButtonStyle, ui

from bot.jobs.delivery import Encoding, Rendered
from bot.jobs.model import JobKind, JobSnapshot, JobState, Showing
from bot.views import pictures, text
from bot.views.buttons import JobButton, Press, Verb
from bot.views.marks import marks_of
from bot.views.report import AppealButton, ReportButton
from t2i.api import CheckpointInfo
from t2i.provenance import Signer

ACCENTS = {
    JobState.HELD: 0xF0B232,
    JobState.QUEUED: 0x80848E,
    JobState.RUNNING: 0x3B82F6,
    JobState.RENDERED: 0x3B82F6,
    JobState.DONE: 0x23A55A,
    JobState.FAILED: 0xF23F43,
    JobState.CANCELLED: 0x4E5058,
}
ALT_TEXT_LENGTH = 256
"""Characters of a gallery item's description."""


def render(
    snapshot: JobSnapshot,
    images: Mapping[int, bytes] = MappingProxyType({}),
    encoding: Encoding = "png",
    info: CheckpointInfo | None = None,
    signer: Signer | None = None,
) -> Rendered:
    """The message that shows `snapshot`.

    `images` are the finished pictures that people may see as PNG by index, needed only once the job is done, and
    attached as `encoding`.
    `info` describes the checkpoint and fills in the defaults that the job left open; `signer` signs the files.
    """
    body: ui.Container[ui.LayoutView] = ui.Container(accent_colour=ACCENTS[snapshot.job.state])
    body.add_item(ui.TextDisplay(_heading(snapshot)))
    match snapshot.job.state:
        case JobState.HELD:
            files = _held(body, snapshot)
        case JobState.QUEUED:
            files = _waiting(body, snapshot)
        case JobState.RUNNING | JobState.RENDERED:
            files = _drawing(body, snapshot)
        case JobState.DONE:
            files = _finished(body, snapshot, images, encoding=encoding, info=info, signer=signer)
        case JobState.FAILED | JobState.CANCELLED:
            files = _ended(body, snapshot)
    view = ui.LayoutView(timeout=None)
    view.add_item(body)
    return Rendered(view=view, files=files)


def _heading(snapshot: JobSnapshot) -> str:
    job = snapshot.job
    heading = f"**{text.quoted(job.options.prompt)}** — <@{job.user_id}>"
    origin = text.origin(job)
    return f"{heading}\n-# {origin}" if origin else heading


def _held(body: ui.Container[Any], snapshot: JobSnapshot) -> list[discord.File]:
    body.add_item(ui.TextDisplay("🔎 A moderator has to look at this prompt before it is drawn."))
    body.add_item(_row(JobButton(Press(Verb.CANCEL, snapshot.job.id))))
    return []


def _waiting(body: ui.Container[Any], snapshot: JobSnapshot) -> list[discord.File]:
    asked = discord.utils.format_dt(snapshot.job.created_at, "R")
    body.add_item(
        ui.TextDisplay(
            f"🕓 {text.place(snapshot)}\n-# {text.counted(snapshot.job.options.images, 'picture')} · asked {asked}"
        )
    )
    body.add_item(_row(JobButton(Press(Verb.CANCEL, snapshot.job.id))))
    return []


def _drawing(body: ui.Container[Any], snapshot: JobSnapshot) -> list[discord.File]:
    job, progress = snapshot.job, snapshot.progress
    if job.state is JobState.RENDERED:
        line = f"{text.bar(1)} **100 %** · finishing"
    elif progress is None or progress.step == 0:
        line = f"{text.bar(0)} **0 %** · starting"
    else:
        percent = f"**{progress.fraction * 100:.0f} %**"
        line = f"{text.bar(progress.fraction)} {percent} · step {progress.step} of {progress.steps}"
    body.add_item(ui.TextDisplay(line))
    files = []
    if progress is not None and progress.preview is not None:
        preview = pictures.for_display(progress.preview, "webp")
        files.append(discord.File(io.BytesIO(preview), "preview.webp"))
        body.add_item(_gallery(files, [f"Preview: {job.options.prompt}"]))
    body.add_item(_row(JobButton(Press(Verb.CANCEL, job.id))))
    return files


def _finished(
    body: ui.Container[Any],
    snapshot: JobSnapshot,
    images: Mapping[int, bytes],
    *,
    encoding: Encoding,
    info: CheckpointInfo | None,
    signer: Signer | None,
) -> list[discord.File]:
    job = snapshot.job
    seen = [image for image in snapshot.images if image.showing.seen and image.index in images]
    shown = [image.index for image in seen]
    files = []
    for image in seen:
        name = pictures.file_name(job.options.prompt, job.id, image.index + 1, encoding)
        data = pictures.finished(images[image.index], encoding, marks_of(job, image, info), name, signer)
        files.append(discord.File(io.BytesIO(data), name))
    if files:
        alt = [f"Picture {i + 1} of {job.options.images}: {job.options.prompt}" for i in shown]
        covered = [image.showing is Showing.SPOILER for image in seen]
        body.add_item(_gallery(files, alt if job.options.images > 1 else [job.options.prompt], covered))
    elif not snapshot.images:
        body.add_item(ui.TextDisplay("The pictures of this job are gone."))
    if unseen := text.unseen(snapshot):
        body.add_item(ui.TextDisplay(unseen))
    body.add_item(ui.TextDisplay(f"-# {text.facts(snapshot, info)}"))
    if files and job.kind is not JobKind.UPSCALE:
        for verb in (Verb.UPSCALE, Verb.VARY):
            body.add_item(_row(*(JobButton(Press(verb, job.id, index + 1)) for index in shown)))
    last: list[ui.Item[Any]] = [JobButton(Press(Verb.INFO, job.id)), JobButton(Press(Verb.DELETE, job.id))]
    if files and job.guild_id is not None:  # direct messages have nobody to report to
        last.insert(1, ReportButton(job.id))
    if job.kind is not JobKind.UPSCALE and (files or not snapshot.images):
        last.insert(0, JobButton(Press(Verb.REROLL, job.id), style=ButtonStyle.primary))
    body.add_item(_row(*last, *_appeal(snapshot)))
    return files


def _ended(body: ui.Container[Any], snapshot: JobSnapshot) -> list[discord.File]:
    job = snapshot.job
    if job.state is JobState.CANCELLED:
        body.add_item(ui.TextDisplay("Cancelled."))
    else:
        body.add_item(ui.TextDisplay(f"⚠️ {text.quoted(job.error or 'The pictures could not be drawn.', 1000)}"))
    again = JobButton(Press(Verb.REROLL, job.id), label="Try again")
    body.add_item(_row(again, JobButton(Press(Verb.DELETE, job.id)), *_appeal(snapshot)))
    return []


def _appeal(snapshot: JobSnapshot) -> list[AppealButton]:
    return [] if snapshot.appeal is None else [AppealButton(snapshot.appeal)]


def _gallery(
    files: list[discord.File], alt_texts: list[str], covered: Sequence[bool] = (False,)
) -> ui.MediaGallery[Any]:
    gallery: ui.MediaGallery[Any] = ui.MediaGallery()
    for file, alt, spoiler in zip(files, alt_texts, covered, strict=True):
        file.description = " ".join(alt.split())[:ALT_TEXT_LENGTH]
        gallery.add_item(media=file, description=file.description, spoiler=spoiler)
    return gallery


def _row(*buttons: ui.Item[Any]) -> ui.ActionRow[Any]:
    return ui.ActionRow(*buttons)
