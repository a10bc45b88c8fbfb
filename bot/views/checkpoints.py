"""The list of checkpoints."""

from __future__ import annotations

from collections.abc import Sequence

from discord import ui

from bot.views import text
from t2i.api import CheckpointInfo

SHOWN = 10
"""Checkpoints in one message; more would pass its 4,000 characters."""


def render(checkpoints: Sequence[CheckpointInfo], current: str) -> ui.LayoutView:
    """A private message that lists what can be drawn with, the one in use here marked."""
    body: ui.Container[ui.LayoutView] = ui.Container(accent_colour=0x3B82F6)
    body.add_item(ui.TextDisplay("### Checkpoints"))
    lines = [_entry(info, info.name == current) for info in checkpoints[:SHOWN]]
    if len(checkpoints) > SHOWN:
        lines.append(f"-# and {len(checkpoints) - SHOWN} more: start typing in `/imagine checkpoint:` to find them")
    body.add_item(ui.TextDisplay("\n".join(lines) or "None is ready yet: the image engine is still starting."))
    body.add_item(ui.TextDisplay("-# Managers of the server choose with `/checkpoint use`."))
    view = ui.LayoutView()
    view.add_item(body)
    return view


def _entry(info: CheckpointInfo, current: bool) -> str:
    mark = " · **in use here**" if current else ""
    sizes = " and ".join(str(size) for size in info.sizes)
    facts = f"{sizes} px · {text.counted(info.steps, 'step')} · {info.parameters / 1e6:.0f} M parameters"
    licence = text.quoted(info.licence, 40)
    return f"**{text.quoted(info.name, 60)}**{mark}\n{text.quoted(info.description, 100)}\n-# {facts} · {licence}"
