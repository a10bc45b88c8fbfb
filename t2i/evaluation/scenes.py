"""Real art, alone and put together by the rules that prompts follow: what the judges learn from and are tested on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image

from t2i.families.collage import (
    COLOUR_WORDS,
    EYEWEAR,
    HEADWEAR,
    SEVERAL,
    SIDE_BY_SIDE,
    STACKED,
    WEARER,
    WHOLE,
    Box,
    Pixels,
    box_on,
    place,
    tint,
)
from t2i.training.data import ANIMALS, SMILEYS, Art

SIDE = 64
"""Pixels at which everything is judged."""
COLOURS = ("red", "orange", "yellow", "green", "teal", "blue", "purple", "pink", "white", "black", "grey")
"""Colour words that are told apart."""
NUMBERS = {2: "two", 3: "three", 4: "four"}


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt, the things that it names, and what a probe should answer to a picture of it."""

    prompt: str
    things: tuple[str, ...]
    answer: str = ""


class Scene(NamedTuple):
    """A picture, premultiplied RGBA [SIDE, SIDE, 4], and the prompt that it answers."""

    pixels: Pixels
    asked: Asked


class Scenes:
    """Draws scenes of each kind from art, at random."""

    def __init__(self, arts: Sequence[Art], seed: int) -> None:
        self._arts = arts
        self._rng = np.random.default_rng(seed)
        self._worn = [art for art in arts if art.label in (*HEADWEAR, *EYEWEAR)] or arts
        self._heads = [art for art in arts if art.group in (SMILEYS, ANIMALS)] or arts
        self._plain = [art for art in arts if not COLOUR_WORDS & set(art.label.split())] or arts

    def tinted(self) -> Scene:
        art, colour = self._one(self._plain), str(self._rng.choice(COLOURS))
        return Scene(tint(art.pixels, colour), Asked(f"a {colour} {art.noun}", (art.label,), colour))

    def wearing(self) -> Scene:
        """A head where wearers go with something on it, now and then with nothing."""
        wearer, worn = self._one(self._heads), self._one(self._worn)
        canvas = blank()
        place(canvas, wearer.pixels, WEARER)
        if self._rng.random() < 0.1:
            return Scene(canvas, Asked(article(wearer.noun), (wearer.label,), "nothing"))
        place(canvas, worn.pixels, box_on(canvas, "eyes" if worn.label in EYEWEAR else "head"))
        return Scene(canvas, wears(wearer.noun, worn.label))

    def beside(self) -> Scene:
        return self._two(SIDE_BY_SIDE, "next to")

    def above(self) -> Scene:
        return self._two(STACKED, "above")

    def several(self) -> Scene:
        """A thing once to four times."""
        art, count = self._one(self._arts), int(self._rng.integers(1, 5))
        canvas = blank()
        for box in SEVERAL.get(count, (WHOLE,)):
            place(canvas, art.pixels, box)
        return Scene(canvas, times(count, art.noun))

    def _two(self, boxes: Sequence[Box], words: str) -> Scene:
        one = self._one(self._arts)
        other = self._one([art for art in self._arts if art.label != one.label] or self._arts)
        canvas = blank()
        for art, box in zip((one, other), boxes, strict=True):
            place(canvas, art.pixels, box)
        return Scene(canvas, between(one.noun, words, other.noun))

    def _one(self, arts: Sequence[Art]) -> Art:
        return arts[int(self._rng.integers(len(arts)))]


def wears(who: str, what: str) -> Asked:
    return Asked(f"{article(who)} wearing {what if what in EYEWEAR else article(what)}", (who, what), what)


def between(one: str, words: str, other: str) -> Asked:
    return Asked(f"{article(one)} {words} {article(other)}", (one, other))


def times(count: int, noun: str) -> Asked:
    plural = noun if noun.endswith("s") else f"{noun}s"
    return Asked(article(noun) if count == 1 else f"{NUMBERS[count]} {plural}", (noun,), str(count))


def article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def blank() -> Pixels:
    return np.zeros((SIDE, SIDE, 4), np.uint8)


def to_pixels(image: Image.Image) -> Pixels:
    """A drawn picture as the judges see it."""
    small = image.convert("RGBA").convert("RGBa").resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.uint8)
