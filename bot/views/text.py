"""Phrases that several messages share. Everything a user typed is escaped here before it is shown."""

from __future__ import annotations

import discord

from bot.jobs.model import Job, JobKind, JobSnapshot, Showing
from t2i.api import CheckpointInfo

SHOWN_PROMPT = 300
BAR_CELLS = 14


def quoted(text: str, limit: int = SHOWN_PROMPT) -> str:
    """Somebody's words on one line, without any meaning to Discord's markdown, cut at `limit` characters."""
    line = " ".join(text.split())
    if len(line) > limit:
        line = line[: limit - 1].rstrip() + "…"
    return discord.utils.escape_mentions(discord.utils.escape_markdown(line))


def bar(fraction: float, cells: int = BAR_CELLS) -> str:
    """A progress bar such as `▰▰▰▱▱▱`."""
    full = round(cells * min(max(fraction, 0.0), 1.0))
    return "▰" * full + "▱" * (cells - full)


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def place(snapshot: JobSnapshot) -> str:
    """Where a waiting job stands in line, and when it will probably be done."""
    if snapshot.paused:
        return "Paused by a moderator, its place is kept"
    match snapshot.position:
        case None:
            place = "Waiting its turn"
        case 0:
            place = "Next in line"
        case ahead:
            place = f"{counted(ahead, 'job')} ahead"
    if snapshot.done_at is None:
        return place
    return f"{place} · done {discord.utils.format_dt(snapshot.done_at, 'R')}"


def origin(job: Job) -> str | None:
    """Where a job's pictures come from, when they come from another job's."""
    match job.kind:
        case JobKind.VARIATION:
            strength = f" · strength {job.options.strength * 100:.0f} %" if job.options.strength is not None else ""
            return f"Variation of picture {shown_parent(job)}{strength}"
        case JobKind.UPSCALE:
            return f"Picture {shown_parent(job)}, upscaled"
        case _:
            return None


def shown_parent(job: Job) -> int:
    """The parent picture's number as its buttons count it, from 1."""
    return (job.parent_index or 0) + 1


def unseen(snapshot: JobSnapshot) -> str:
    """Which pictures are not shown and why, a line for each reason; empty when all are."""
    hidden: dict[tuple[Showing, str | None], list[str]] = {}
    for image in snapshot.images:
        if not image.showing.seen:
            hidden.setdefault((image.showing, image.note), []).append(str(image.index + 1))
    alone = snapshot.job.options.images == 1
    return "\n".join(_hidden(*why, [] if alone else numbers) for why, numbers in hidden.items())


def _hidden(showing: Showing, note: str | None, numbers: list[str]) -> str:
    """`numbers` are empty where there is only one picture."""
    which = f"{'Picture' if len(numbers) == 1 else 'Pictures'} {', '.join(numbers)}"
    if showing is Showing.HELD and note is None:
        return f"🔎 {which if numbers else 'The picture'} {'wait' if len(numbers) > 1 else 'waits'} for a moderator."
    why = quoted(note or "It was removed.", 500)
    mark = "🔎" if showing is Showing.HELD else "🚫"
    return f"{mark} {which}: {why}" if numbers else f"{mark} {why}"


def facts(snapshot: JobSnapshot, info: CheckpointInfo | None) -> str:
    """The compact line under a finished picture: seed, size, steps, checkpoint, seconds, when."""
    job = snapshot.job
    steps = job.options.steps or (info.steps if info else None)
    parts = [
        f"seed {job.seed}",
        f"{snapshot.images[0].width} × {snapshot.images[0].height}" if snapshot.images else None,
        counted(steps, "step") if steps and job.kind is not JobKind.UPSCALE else None,
        quoted(job.checkpoint),
        duration(job.seconds) if job.seconds is not None else None,
        discord.utils.format_dt(job.finished_at, "R") if job.finished_at else None,
    ]
    return " · ".join(part for part in parts if part)
