"""Pictures put together from pictures: tints, places on a canvas, and the rules that read both out of a prompt.

All pixels are premultiplied RGBA, [h, w, 4] uint8. The rules are few and literal ("X wearing Y", "X next to Y", "three
X", a colour word before a noun): they only lay out what a network then draws.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]

HUES = {
    "red": 0.0, "orange": 0.075, "yellow": 0.14, "green": 0.33, "teal": 0.48, "blue": 0.6, "purple": 0.76, "pink": 0.9,
    "gold": 0.125, "golden": 0.125, "brown": 0.07,
}  # fmt: skip
"""Hue of each colour word, 0..1."""
GREYS = ("white", "black", "grey", "gray", "silver")
COLOUR_WORDS = frozenset({*HUES, *GREYS, "rainbow"})
HEADWEAR = ("crown", "top hat", "graduation cap", "billed cap", "woman’s hat", "rescue worker’s helmet", "ribbon")
EYEWEAR = ("glasses", "sunglasses", "goggles")
_WORN_AS = {"hat": "top hat", "cap": "billed cap", "helmet": "rescue worker’s helmet", "bow": "ribbon"}
"""What people call it, and what it is called here."""


class Box(NamedTuple):
    """A square of the canvas: left, top and side as shares of the canvas' side."""

    left: float
    top: float
    side: float


WHOLE = Box(0.0, 0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Part:
    """A thing in a scene: its noun without the colour, where it goes, and what it is worn on, if it is worn."""

    noun: str
    colour: str | None = None
    box: Box = WHOLE
    worn: str | None = None
    """None, "head" or "eyes": it goes on what the part before it shows there."""


WEARER = Box(0.11, 0.22, 0.78)
HOLDER, HELD = Box(0.0, 0.06, 0.86), Box(0.52, 0.5, 0.5)
SIDE_BY_SIDE = (Box(0.0, 0.25, 0.5), Box(0.5, 0.25, 0.5))
STACKED = (Box(0.25, 0.0, 0.5), Box(0.25, 0.5, 0.5))
BEHIND_AND_BEFORE = (Box(0.0, 0.0, 0.9), Box(0.42, 0.48, 0.52))
SEVERAL = {
    2: SIDE_BY_SIDE,
    3: (Box(0.25, 0.0, 0.5), Box(0.0, 0.5, 0.5), Box(0.5, 0.5, 0.5)),
    4: tuple(Box(x, y, 0.5) for y in (0.0, 0.5) for x in (0.0, 0.5)),
    5: (*(Box(x, 0.1, 0.36) for x in (0.0, 0.32, 0.64)), Box(0.16, 0.5, 0.36), Box(0.48, 0.5, 0.36)),
    6: tuple(Box(x, y, 0.36) for y in (0.12, 0.52) for x in (0.0, 0.32, 0.64)),
}
_NUMBERS = {"two": 2, "a pair of": 2, "three": 3, "four": 4, "five": 5, "six": 6}

_WEARING = re.compile(r"^(?P<who>.+?),? (?:wearing|with|in) (?P<what>.+)$")
_HOLDING = re.compile(r"^(?P<who>.+?) (?:holding|carrying|eating|with|reading|playing) (?P<what>.+)$")
_BETWEEN = (
    (re.compile(r"^(.+?) (?:above|over|on top of|on) (.+)$"), STACKED),
    (re.compile(r"^(.+?) (?:below|under|beneath) (.+)$"), STACKED[::-1]),
    (re.compile(r"^(.+?) (?:in front of|inside) (.+)$"), BEHIND_AND_BEFORE[::-1]),
    (re.compile(r"^(.+?) behind (.+)$"), BEHIND_AND_BEFORE),
    (re.compile(r"^(.+?) (?:to the left of|next to|beside|near|by|and|&) (.+)$"), SIDE_BY_SIDE),
    (re.compile(r"^(.+?) to the right of (.+)$"), SIDE_BY_SIDE[::-1]),
)
_ARTICLE = re.compile(r"^(?:an?|the|some|one|my|cute|little|small|big|happy|single) ")


def read_scene(prompt: str) -> list[Part]:
    """The parts that a prompt names, furthest behind first; one of the whole prompt where no rule applies."""
    text = _first_clause(prompt)
    if (match := _WEARING.match(text)) and (worn := _worn_things(match["what"])):
        return [replace(_thing(match["who"]), box=WEARER), *worn]
    for pattern, boxes in _BETWEEN:
        if match := pattern.match(text):
            one, other = (replace(_thing(words), box=box) for words, box in zip(match.groups(), boxes, strict=True))
            return [other, one] if boxes is BEHIND_AND_BEFORE[::-1] else [one, other]
    if match := _HOLDING.match(text):
        return [replace(_thing(match["who"]), box=HOLDER), replace(_thing(match["what"]), box=HELD)]
    for words, count in [*_NUMBERS.items(), *((str(count), count) for count in SEVERAL)]:
        if text.startswith(f"{words} "):
            thing = _thing(singular(text.removeprefix(words)))
            return [replace(thing, box=box) for box in SEVERAL[count]]
    return [_thing(text)]


def bare(words: str) -> str:
    """Words without the article and the like before them."""
    noun = _first_clause(words)
    while (shorter := _ARTICLE.sub("", noun)) != noun:
        noun = shorter
    return noun


def _first_clause(prompt: str) -> str:
    return re.sub(r"\s+", " ", prompt.lower().split(",")[0]).strip(" .!?")


def _worn_things(words: str) -> list[Part]:
    """Nothing unless every thing is one that is worn."""
    things = [_thing(part) for part in re.split(r",| and ", words)]
    parts = []
    for thing in things:
        noun = _WORN_AS.get(thing.noun, thing.noun)
        if noun not in (*HEADWEAR, *EYEWEAR):
            return []
        parts.append(replace(thing, noun=noun, worn="eyes" if noun in EYEWEAR else "head"))
    return parts


def _thing(words: str) -> Part:
    noun = bare(words)
    colour = next((word for word in noun.split() if word in COLOUR_WORDS and word != "rainbow"), None)
    rest = " ".join(word for word in noun.split() if word != colour)
    return Part(rest, colour) if colour and rest else Part(noun)


def singular(noun: str) -> str:
    """One of them, as far as endings tell."""
    noun = noun.strip()
    for ending, single in (("ies", "y"), ("ches", "ch"), ("shes", "sh"), ("xes", "x"), ("sses", "ss"), ("oes", "o")):
        if noun.endswith(ending):
            return noun.removesuffix(ending) + single
    return noun.removesuffix("s") if not noun.endswith("ss") else noun


# --- pixels -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Layer:
    """A picture in a collage; `worn` as in `Part`."""

    pixels: Pixels
    colour: str | None = None
    box: Box = WHOLE
    worn: str | None = None
    flipped: bool = False


def compose(layers: Iterable[Layer], size: int) -> Pixels:
    """One picture [size, size, 4] of these layers, furthest behind first."""
    canvas = np.zeros((size, size, 4), np.uint8)
    for layer in layers:
        coloured = tint(layer.pixels, layer.colour) if layer.colour else layer.pixels
        turned = coloured[:, ::-1] if layer.flipped else coloured
        place(canvas, turned, box_on(canvas, layer.worn) if layer.worn else layer.box)
    return canvas


def tint(pixels: Pixels, colour: str) -> Pixels:
    """Art in another colour, its light and shade kept. Grey art takes colour too."""
    image = Image.fromarray(pixels, "RGBa").convert("RGBA")
    hsv = np.asarray(image.convert("RGB").convert("HSV")).astype(np.float32) / 255
    hue, saturation, value = hsv[..., 0], hsv[..., 1], hsv[..., 2]
    if colour in HUES:
        hue = np.full_like(hue, HUES[colour])
        # A white picture would stay white: colour what is light, less where it is a highlight.
        saturation = np.maximum(saturation, 0.75 * (1 - np.clip(value - 0.85, 0, 0.15) / 0.3))
        if colour == "brown":
            saturation, value = saturation * 0.8, value * 0.62
    else:
        saturation = saturation * 0.08
        value = {"white": 0.55 + 0.45 * value, "black": 0.34 * value}.get(colour, 0.2 + 0.6 * value)
    changed = np.stack([hue, saturation, value], -1).clip(0, 1) * 255
    tinted = Image.fromarray(changed.round().astype(np.uint8), "HSV").convert("RGB")
    tinted.putalpha(image.getchannel("A"))
    return np.asarray(tinted.convert("RGBa"))


def place(canvas: Pixels, pixels: Pixels, box: Box) -> None:
    """Composite a square picture, scaled to the box, over the canvas, in place; what leaves the canvas is cut."""
    frame = canvas.shape[0]
    side = max(1, round(box.side * frame))
    left, top = round(box.left * frame), round(box.top * frame)
    scaled = np.asarray(Image.fromarray(pixels, "RGBa").resize((side, side), Image.Resampling.BOX))
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + side, frame), min(top + side, frame)
    if x0 >= x1 or y0 >= y1:
        return
    upper = scaled[y0 - top : y1 - top, x0 - left : x1 - left].astype(np.float32)
    region = canvas[y0:y1, x0:x1]
    region[:] = np.clip(upper + region * (1 - upper[..., 3:] / 255), 0, 255).astype(np.uint8)


def bent(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Turned by up to 12 degrees, sheared and scaled a little."""
    size = len(pixels)
    angle, shear = rng.uniform(-0.2, 0.2), rng.uniform(-0.12, 0.12)
    sx, sy = rng.uniform(0.9, 1.15, 2)
    matrix = np.array([[np.cos(angle) * sx, -np.sin(angle) + shear], [np.sin(angle), np.cos(angle) * sy]])
    offset = (size / 2) * (1 - matrix.sum(1))
    coefficients = (*matrix[0], offset[0], *matrix[1], offset[1])
    image = Image.fromarray(np.ascontiguousarray(pixels), "RGBa")
    return np.asarray(image.transform((size, size), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR))


def jittered(box: Box, rng: np.random.Generator, *, shift: float, scale: float) -> Box:
    """The box moved by up to `shift` of the canvas and scaled by up to `scale` about its middle."""
    dx, dy = rng.uniform(-shift, shift, 2)
    side = box.side * (1 + rng.uniform(-scale, scale))
    return Box(box.left + dx + (box.side - side) / 2, box.top + dy + (box.side - side) / 2, side)


def box_on(canvas: Pixels, where: str) -> Box:
    """Where something worn goes on what is drawn so far: on top of its head, or over the upper half of its face."""
    solid = canvas[..., 3] > 128
    frame = len(canvas)
    rows = np.flatnonzero(solid.any(1))
    if not len(rows):
        return Box(0.28, 0.0, 0.44)
    top, bottom = rows[0] / frame, rows[-1] / frame
    height = bottom - top
    band = solid[rows[0] : rows[0] + max(1, int(height * frame * (0.25 if where == "head" else 0.5)))]
    columns = np.flatnonzero(band.any(0))
    centre, width = (columns[0] + columns[-1]) / 2 / frame, (columns[-1] - columns[0]) / frame
    if where == "head":
        side = float(np.clip(0.85 * width, 0.3, 0.46))
        return Box(centre - side / 2, max(0.0, top + 0.1 * height - 0.78 * side), side)
    side = float(np.clip(0.8 * width, 0.3, 0.6))
    return Box(centre - side / 2, top + 0.42 * height - side / 2, side)
