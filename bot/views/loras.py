"""The list of LoRAs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from discord import ui

from bot.views import text
from t2i.api import LoraInfo

SHOWN = 25
"""LoRAs in one message."""


def render(loras: Sequence[LoraInfo]) -> ui.LayoutView:
    """A private message: names, the family they were trained on, and their sizes."""
    lines = [
        f"**{text.quoted(lora.name, 60)}** · {lora.family or 'family unknown'} · {lora.size / 1e6:.1f} MB"
        for lora in loras[:SHOWN]
    ]
    if len(loras) > SHOWN:
        lines.append(f"-# and {len(loras) - SHOWN} more")
    body: ui.Container[Any] = ui.Container(accent_colour=0x3B82F6)
    body.add_item(ui.TextDisplay("### LoRAs"))
    body.add_item(ui.TextDisplay("\n".join(lines) or "There is none yet: managers add some with `/lora add`."))
    view = ui.LayoutView()
    view.add_item(body)
    return view
