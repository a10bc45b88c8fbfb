"""The list of checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import discord
from discord import ui

from bot.jobs.checkpoints import Choice
from bot.views import text
from t2i.api import CheckpointInfo, Damaged

SHOWN = 10
"""Checkpoints in one message; more would pass its 4,000 characters."""
SHOWN_DAMAGED = 3


def render(
    checkpoints: Sequence[CheckpointInfo],
    current: str,
    *,
    choice: Choice | None = None,
    default: str = "",
    loaded: Callable[[str], bool] = lambda name: False,
    damaged: Sequence[Damaged] = (),
) -> ui.LayoutView:
    """A private message that lists what can be drawn with, the one in use here marked, and what is damaged.

    `default` draws where the server chose nothing.
    """
    body: ui.Container[Any] = ui.Container(accent_colour=0x3B82F6)
    body.add_item(ui.TextDisplay("### Checkpoints"))
    lines = [_entry(info, info.name == current, loaded(info.name)) for info in checkpoints[:SHOWN]]
    if len(checkpoints) > SHOWN:
        lines.append(f"-# and {len(checkpoints) - SHOWN} more: start typing in `/imagine checkpoint:` to find them")
    body.add_item(ui.TextDisplay("\n".join(lines) or "None is ready yet: the image engine is still starting."))
    if damaged:
        body.add_item(ui.TextDisplay("\n".join(_damage(found) for found in damaged[:SHOWN_DAMAGED])))
    if choice and choice.temporary and choice.until:
        after = f"**{text.quoted(choice.checkpoint or default, 60)}**"
        over = discord.utils.format_dt(choice.until, "R")
        body.add_item(ui.TextDisplay(f"**{text.quoted(choice.temporary, 60)}** ends {over}, then {after} draws here."))
    body.add_item(ui.TextDisplay("-# `/checkpoint info` shows samples. Managers choose with `/checkpoint use`."))
    view = ui.LayoutView()
    view.add_item(body)
    return view


def _entry(info: CheckpointInfo, current: bool, loaded: bool) -> str:
    marks = [mark for mark, holds in (("**in use here**", current), ("in memory", loaded)) if holds]
    title = " · ".join([f"**{text.quoted(info.name, 60)}**", *marks])
    sizes = " and ".join(str(size) for size in info.sizes)
    facts = f"{sizes} px · {text.counted(info.steps, 'step')} · {info.parameters / 1e6:.0f} M parameters"
    licence = text.quoted(info.licence, 40)
    return f"{title}\n{text.quoted(info.description, 100)}\n-# {facts} · {licence}"


def _damage(found: Damaged) -> str:
    return f"⚠️ **{text.quoted(found.name, 60)}** cannot draw: {text.quoted(found.problem, 150)}"
