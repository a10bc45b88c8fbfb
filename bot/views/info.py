"""Everything known about a finished job, for whoever presses Info."""

from __future__ import annotations

import discord
from discord import ui
from msgspec.structs import replace

from bot.jobs.model import JobSnapshot
from bot.views import text
from bot.views.job import ACCENTS
from t2i.api import CheckpointInfo


def render(snapshot: JobSnapshot, info: CheckpointInfo | None) -> ui.LayoutView:
    """A private message: the full prompt, every parameter, and the command that asks for the same pictures again."""
    body: ui.Container[ui.LayoutView] = ui.Container(accent_colour=ACCENTS[snapshot.job.state])
    body.add_item(ui.TextDisplay(f"### Job {snapshot.job.id}\n{text.quoted(snapshot.job.options.prompt)}"))
    body.add_item(ui.TextDisplay("\n".join(f"**{name}:** {value}" for name, value in _parameters(snapshot, info))))
    body.add_item(ui.Separator())
    body.add_item(ui.TextDisplay(f"{_advice(snapshot)}\n```\n{_command(snapshot)}\n```"))
    view = ui.LayoutView()
    view.add_item(body)
    return view


def _parameters(snapshot: JobSnapshot, info: CheckpointInfo | None) -> list[tuple[str, str]]:
    job, images = snapshot.job, [image for image in snapshot.images if image.showing.seen]
    options = job.options
    rows = [
        ("Negative prompt", options.negative_prompt and text.quoted(options.negative_prompt)),
        ("Origin", _origin(snapshot)),
        ("Seeds" if len(images) > 1 else "Seed", ", ".join(str(image.seed) for image in images) or str(job.seed)),
        ("Size", f"{images[0].width} × {images[0].height} px" if images else None),
        ("Steps", _or_default(options.steps, info and info.steps)),
        ("Guidance", _or_default(options.guidance_scale, info and info.guidance_scale)),
        ("Sampler", _or_default(options.sampler, info and info.sampler)),
        ("Checkpoint", f"{text.quoted(job.checkpoint)}{f' (`{info.sha256[:12]}`)' if info else ''}"),
        ("Took", text.duration(job.seconds) if job.seconds is not None else None),
        ("Asked", f"{discord.utils.format_dt(job.created_at, 'f')} by <@{job.user_id}>"),
    ]
    return [(name, value) for name, value in rows if value]


def _origin(snapshot: JobSnapshot) -> str | None:
    origin, parent = text.origin(snapshot.job), snapshot.job.parent_id
    if origin and parent:
        return f"{origin} (job {parent})"
    return f"Reroll of job {parent}" if parent else None


def _or_default(given: object | None, default: object | None) -> str | None:
    if given is not None:
        return f"{given:g}" if isinstance(given, float) else str(given)
    return f"{default} (default)" if default is not None else None


def _advice(snapshot: JobSnapshot) -> str:
    if text.origin(snapshot.job):
        return "This picture grew out of another one; from words alone, this comes closest:"
    return "To draw the same pictures again:"


def _command(snapshot: JobSnapshot) -> str:
    """The canonical command, in full, with the seed and the checkpoint that were really used."""
    job = snapshot.job
    options = replace(job.options, seed=job.seed, checkpoint=job.checkpoint)
    return options.canonical().replace("```", "'''")
