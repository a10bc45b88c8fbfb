"""A checkpoint's card: what it is, what it needs on this machine, and which buttons it understands."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import discord
from discord import ui

from bot.jobs.measures import Measure
from bot.views import text
from bot.views.changes import Shown
from t2i.api import CheckpointInfo, Feature

_BUTTONS: dict[Feature, str] = {
    "image": "starting from a picture",
    "mask": "inpainting",
    "tile": "seamless tiles",
    "loras": "LoRAs",
    "negative_prompt": "negative prompts",
    "any_size": "other shapes",
}


@dataclass(frozen=True, slots=True)
class Card:
    """What is known of a checkpoint here and now; `sheet` are its samples as WebP."""

    info: CheckpointInfo
    loaded: bool
    current: bool
    measure: Measure | None = None
    sheet: bytes | None = None
    drawing: bool = False
    """The samples are on their way."""
    covered: bool = False
    """There are samples, which may not be shown in this channel."""


def render(card: Card) -> Shown:
    info = card.info
    body: ui.Container[Any] = ui.Container(accent_colour=0x3B82F6)
    body.add_item(ui.TextDisplay(f"### {text.quoted(info.name, 60)}\n{text.quoted(info.description, 300)}"))
    files = []
    if card.sheet is not None:
        file = discord.File(io.BytesIO(card.sheet), "samples.webp", description=f"Four samples drawn by {info.name}")
        gallery: ui.MediaGallery[Any] = ui.MediaGallery()
        gallery.add_item(media=file, description=file.description)
        body.add_item(gallery)
        files.append(file)
    elif card.drawing:
        body.add_item(ui.TextDisplay("-# Its samples are being drawn…"))
    elif card.covered:
        body.add_item(ui.TextDisplay("-# Its samples are shown in age-restricted channels only."))
    body.add_item(ui.TextDisplay("\n".join(f"**{name}:** {value}" for name, value in _rows(card) if value)))
    view = ui.LayoutView()
    view.add_item(body)
    return Shown(view, files)


def _rows(card: Card) -> list[tuple[str, str | None]]:
    info, measure = card.info, card.measure
    defaults = f"{text.counted(info.steps, 'step')}, guidance {info.guidance_scale:g}, {info.sampler}"
    state = ["in use here"] if card.current else []
    state.append("in memory" if card.loaded else "on the disk")
    memory = f", {measure.memory / 1e6:,.0f} MB in memory" if measure and measure.memory else ""
    return [
        ("State", ", ".join(state)),
        ("Family", info.family),
        ("Draws", f"{' and '.join(str(size) for size in info.sizes)} px"),
        ("By default", defaults),
        ("One picture", f"{text.duration(measure.seconds)} on this machine" if measure else "not measured here yet"),
        ("Size", f"{info.parameters / 1e6:,.1f} M parameters{memory}"),
        ("Understands", ", ".join(_abilities(info))),
        ("Licence", text.quoted(info.licence, 60)),
        ("Hash", f"`{info.sha256[:16]}`"),
    ]


def _abilities(info: CheckpointInfo) -> list[str]:
    upscales = ["upscaling (U)"] if len(info.sizes) > 1 else []
    return [*upscales, *(words for feature, words in _BUTTONS.items() if feature in info.features)] or ["words only"]
