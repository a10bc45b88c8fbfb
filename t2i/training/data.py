"""Training pictures: any folder of images with captions, and the scenes composed of them on the fly.

Emoji show one thing each, so colours, hats, pairs and counts are composed while training, by the same rules that lay
out what a prompt asks for. With each scene comes a collage of it: the same things by other hands, or bent and turned,
roughly where they belong. The network learns to draw the scene after the collage. Every example is a pure function of
(seed, position), which makes a resumed run see what an uninterrupted one would have seen.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from t2i.families import collage
from t2i.families.collage import COLOUR_WORDS, EYEWEAR, HEADWEAR, WHOLE, Box, Layer, Pixels, bent, jittered
from t2i.training.captions import Captioned, open_picture, read_folder

TINTS = ("red", "orange", "yellow", "green", "teal", "blue", "purple", "pink", "black", "white", "brown", "gold")
SMILEYS, ANIMALS = 0, 3
"""Groups of the art whose faces can wear hats."""
_COUNTS = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6}
_BETWEEN = {
    "next to": collage.SIDE_BY_SIDE, "and": collage.SIDE_BY_SIDE,
    "above": collage.STACKED, "on top of": collage.STACKED,
    "behind": collage.BEHIND_AND_BEFORE,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Art:
    """One picture, and the same thing `by_others`: pixels [size, size, 4] uint8, colours premultiplied by alpha."""

    pixels: Pixels
    label: str
    names: tuple[str, ...] = ()
    group: int | None = None
    by_others: tuple[Pixels, ...] = ()

    @property
    def noun(self) -> str:
        """What people would call it."""
        return self.label.removesuffix(" face") if self.group == ANIMALS else self.label


class Example(NamedTuple):
    """Premultiplied RGBA [h, w, 4] uint8, what it shows, and the collage [h, w, 4] it is to be drawn after."""

    pixels: Pixels
    caption: str
    collage: Pixels


class Batch(NamedTuple):
    """Pixels and collages, float32 [n, 4, h, w] in -1..1, and captions."""

    pixels: npt.NDArray[np.float32]
    captions: list[str]
    collages: npt.NDArray[np.float32]


def load_folder(folder: Path, size: int) -> list[Art]:
    """The pictures of a folder (`captions.read_folder`), fitted into `size` pixels. Raises DatasetError."""
    return [_read(entry, size) for entry in read_folder(folder)]


def _read(entry: Captioned, size: int) -> Art:
    label = entry.caption
    names = tuple(tag for tag in entry.tags if tag in label or len(tag) > 3)
    by_others = tuple(_fit(open_picture(file), size) for file in entry.references)
    return Art(_fit(entry.open(), size), label, names, entry.group, by_others)


def _fit(image: Image.Image, size: int) -> Pixels:
    image.thumbnail((size, size), Image.Resampling.LANCZOS)
    canvas = Image.new("RGBA", (size, size))
    canvas.paste(image, ((size - image.width) // 2, (size - image.height) // 2))
    return np.asarray(canvas.convert("RGBa"), dtype=np.uint8).copy()


# --- scenes -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Piece:
    """A thing in a scene; `worn` as in `collage.Part`."""

    art: Art
    colour: str | None = None
    box: Box = WHOLE
    worn: str | None = None
    flipped: bool = False


class Composer:
    """Draws example number `position` of the stream."""

    def __init__(
        self,
        arts: list[Art],
        seed: int,
        group_weights: dict[str, float] | None = None,
        *,
        collages: bool = True,
        dropped: float = 0.15,
    ) -> None:
        """`group_weights`: how often a group's art is drawn, 1 where it is not named. `dropped`: the share of examples
        whose collage is empty, so that the network draws without one too; without `collages` all are."""
        self._arts = arts
        self._seed = seed
        self._dropped = dropped if collages else 1.0
        weights = np.array([(group_weights or {}).get(str(art.group), 1.0) for art in arts])
        self._weights = weights / weights.sum()
        self._wearables = [art for art in arts if art.label in (*HEADWEAR, *EYEWEAR)]
        self._wearers = [art for art in arts if art.group in (SMILEYS, ANIMALS) and "face" in art.label] + [
            art for art in arts if art.group == ANIMALS and "face" not in art.label
        ]
        self._groups = {art.group: [other for other in arts if other.group == art.group] for art in arts}
        self._held_out = _HeldOut()

    def batch(self, position: int, size: int) -> Batch:
        """`size` examples from `position` on."""
        examples = [self.example(position + i) for i in range(size)]
        pixels, collages = (_to_network([getattr(one, name) for one in examples]) for name in ("pixels", "collage"))
        return Batch(pixels, [one.caption for one in examples], collages)

    def example(self, position: int) -> Example:
        rng = np.random.default_rng((self._seed, position))
        pieces, caption = self._scene(rng)
        size = pieces[0].art.pixels.shape[0]
        pixels = _draw([(piece, piece.art.pixels) for piece in pieces], size)
        if rng.random() < self._dropped:
            return Example(pixels, caption, np.zeros_like(pixels))
        if rng.random() < 0.25:
            # Where the noisy picture agrees with the collage there is nothing to change.
            return Example(pixels, caption, pixels)
        rough = [self._roughly(piece, rng) for piece in pieces if len(pieces) == 1 or rng.random() > 0.05]
        return Example(pixels, caption, _draw(rough, size))

    # --- what is shown ------------------------------------------------------------------------------------------------

    def _scene(self, rng: np.random.Generator) -> tuple[list[Piece], str]:
        kind = rng.random()
        if kind < 0.14 and self._wearables and self._wearers:
            return self._wearing(rng)
        if kind < 0.25 and len(self._arts) > 1:
            return self._together(rng)
        if kind < 0.32:
            return self._several(rng)
        if kind < 0.36 and self._wearers and len(self._arts) > 1:
            return self._holding(rng)
        return self._single(rng)

    def _single(self, rng: np.random.Generator) -> tuple[list[Piece], str]:
        piece, noun = self._piece(rng, tinted=0.35)
        return [replace(piece, box=jittered(WHOLE, rng, shift=0.03, scale=0.04))], _phrase(noun, rng)

    def _wearing(self, rng: np.random.Generator) -> tuple[list[Piece], str]:
        wearer = _pick(self._wearers, rng)
        allowed = [art for art in self._wearables if not self._held_out.worn(wearer.noun, art.label)]
        if not allowed:
            return self._single(rng)
        worn = _pick(allowed, rng)
        piece, noun = self._colour(wearer, rng, 0.2)
        box = jittered(collage.WEARER, rng, shift=0.03, scale=0.05)
        where = "eyes" if worn.label in EYEWEAR else "head"
        named = worn.label if worn.label in EYEWEAR else _with_article(worn.label)
        pieces = [replace(piece, box=box), Piece(worn, worn=where)]
        return pieces, f"{_with_article(noun)} {'wearing' if rng.random() < 0.8 else 'with'} {named}"

    def _together(self, rng: np.random.Generator) -> tuple[list[Piece], str]:
        (one, first), (other, second) = (self._piece(rng, tinted=0.15) for _ in range(2))
        if self._held_out.pair(one.art.noun, other.art.noun):
            return self._single(rng)
        words = list(_BETWEEN)[rng.integers(len(_BETWEEN))]
        boxes = [jittered(box, rng, shift=0.02, scale=0.05) for box in _BETWEEN[words]]
        pieces = [replace(piece, box=box) for piece, box in zip((one, other), boxes, strict=True)]
        return pieces, f"{_with_article(first)} {words} {_with_article(second)}"

    def _several(self, rng: np.random.Generator) -> tuple[list[Piece], str]:
        piece, noun = self._piece(rng, tinted=0.25)
        word = list(_COUNTS)[rng.choice(len(_COUNTS), p=(0.35, 0.3, 0.2, 0.08, 0.07))]
        boxes = collage.SEVERAL[_COUNTS[word]]
        return [
            replace(piece, box=jittered(box, rng, shift=0.015, scale=0.04)) for box in boxes
        ], f"{word} {_plural(noun)}"

    def _holding(self, rng: np.random.Generator) -> tuple[list[Piece], str]:
        (holder, who), (held, what) = self._colour(_pick(self._wearers, rng), rng, 0.15), self._piece(rng, tinted=0.15)
        pieces = [
            replace(holder, box=jittered(collage.HOLDER, rng, shift=0.02, scale=0.04)),
            replace(held, box=jittered(collage.HELD, rng, shift=0.03, scale=0.06)),
        ]
        return pieces, f"{_with_article(who)} holding {_with_article(what)}"

    def _piece(self, rng: np.random.Generator, *, tinted: float) -> tuple[Piece, str]:
        return self._colour(self._arts[rng.choice(len(self._arts), p=self._weights)], rng, tinted)

    def _colour(self, art: Art, rng: np.random.Generator, tinted: float) -> tuple[Piece, str]:
        """The art as it is, or now and then in another colour, and what it is called then."""
        flipped = bool(rng.random() < 0.5)
        if rng.random() >= tinted:
            return Piece(art, flipped=flipped), _name(art, rng)
        plain = _without_colour(art.noun)
        colours = [colour for colour in TINTS if not self._held_out.colour(colour, plain)]
        colour = colours[rng.integers(len(colours))]
        return Piece(art, colour, flipped=flipped), f"{colour} {plain}"

    # --- what it is drawn after ---------------------------------------------------------------------------------------

    def _roughly(self, piece: Piece, rng: np.random.Generator) -> tuple[Piece, Pixels]:
        art = piece.art
        if rng.random() < 0.05:
            art = _pick(self._groups[art.group], rng)
        if art.by_others and rng.random() < 0.55:
            pixels = art.by_others[rng.integers(len(art.by_others))]
        else:
            pixels = bent(art.pixels, rng)
        rough = replace(
            piece,
            box=jittered(piece.box, rng, shift=0.03, scale=0.08),
            colour=piece.colour if rng.random() < 0.92 else None,
            flipped=piece.flipped if rng.random() < 0.85 else not piece.flipped,
        )
        return rough, pixels


class _HeldOut:
    """Combinations that are never composed."""

    def __init__(self) -> None:
        listed = tomllib.loads((Path(__file__).parent / "held_out.toml").read_text())
        self._colours, self._worn = ({tuple(pair) for pair in listed[name]} for name in ("colours", "worn"))
        self._pairs = {frozenset(pair) for pair in listed["pairs"]}

    def colour(self, colour: str, noun: str) -> bool:
        return any((colour, word) in self._colours for word in (noun, *noun.split()))

    def worn(self, wearer: str, worn: str) -> bool:
        return any((word, worn) in self._worn for word in (wearer, *wearer.split()))

    def pair(self, one: str, other: str) -> bool:
        return frozenset((one, other)) in self._pairs


def _draw(pieces: Sequence[tuple[Piece, Pixels]], size: int) -> Pixels:
    """One picture of these pieces, each with the pixels to draw it by."""
    layers = (Layer(pixels, one.colour, one.box, one.worn, one.flipped) for one, pixels in pieces)
    return collage.compose(layers, size)


def _to_network(pictures: list[Pixels]) -> npt.NDArray[np.float32]:
    stacked = np.stack(pictures).transpose(0, 3, 1, 2).astype(np.float32)
    return np.ascontiguousarray(stacked / np.float32(127.5) - 1)


# --- words ------------------------------------------------------------------------------------------------------------


def _pick(arts: list[Art], rng: np.random.Generator) -> Art:
    return arts[rng.integers(len(arts))]


def _name(art: Art, rng: np.random.Generator) -> str:
    """The label, now and then with a tag beside it, as people would add a word."""
    if art.names and rng.random() < 0.12:
        return f"{art.label}, {art.names[rng.integers(len(art.names))]}"
    return art.noun if rng.random() < 0.7 else art.label


def _without_colour(noun: str) -> str:
    return " ".join(word for word in noun.split() if word not in COLOUR_WORDS) or noun


def _plural(noun: str) -> str:
    return noun if noun.endswith("s") else noun + ("es" if noun.endswith(("x", "ch", "sh")) else "s")


def _with_article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _phrase(noun: str, rng: np.random.Generator) -> str:
    return _with_article(noun) if rng.random() < 0.7 else noun
