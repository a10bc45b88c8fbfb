"""Training pictures: any folder of images with captions, and the compositions drawn from them on the fly.

Emoji show one thing each, so colours, hats and pairs are composed while training: every example is a pure function of
(seed, position), which makes a resumed run see what an uninterrupted one would have seen.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from t2i.api import T2IError

COLOURS = {
    "red": 0.0, "orange": 0.075, "yellow": 0.14, "green": 0.33, "teal": 0.48, "blue": 0.6, "purple": 0.76, "pink": 0.9,
}  # fmt: skip
"""Hue of each colour word, 0..1."""
COLOUR_WORDS = {*COLOURS, "white", "black", "brown", "grey", "gold", "golden", "rainbow"}
HATS = ("crown", "top hat")
SMILEYS, ANIMALS = 0, 3
"""Groups of the art whose faces can wear hats."""


class DatasetError(T2IError):
    """The training folder is not what it should be."""


@dataclass(frozen=True, slots=True)
class Art:
    """One picture: `pixels` [size, size, 4] uint8, colours premultiplied by alpha."""

    pixels: np.ndarray
    label: str
    names: tuple[str, ...]
    group: int | None
    colourful: bool


def load_folder(folder: Path, size: int) -> list[Art]:
    """Read captions.jsonl (file, caption, optional tags and group) and its images, fitted into `size` pixels."""
    listing = folder / "captions.jsonl"
    if not listing.is_file():
        raise DatasetError(f"{folder} holds no captions.jsonl: one JSON line per picture with 'file' and 'caption'.")
    arts = []
    for line in listing.read_text().splitlines():
        entry = json.loads(line)
        with Image.open(folder / "images" / entry["file"]) as image:
            pixels = _fit(image.convert("RGBA"), size)
        label = entry["caption"]
        names = tuple(tag for tag in entry.get("tags", ()) if tag in label or len(tag) > 3)
        arts.append(Art(pixels, label, names, entry.get("group"), _colourful(pixels)))
    return arts


def _fit(image: Image.Image, size: int) -> np.ndarray:
    image.thumbnail((size, size), Image.Resampling.LANCZOS)
    canvas = Image.new("RGBA", (size, size))
    canvas.paste(image, ((size - image.width) // 2, (size - image.height) // 2))
    return np.asarray(canvas.convert("RGBa"), dtype=np.uint8).copy()


def _colourful(pixels: np.ndarray) -> bool:
    """Whether a hue tint would show: at least a third of the opaque pixels are saturated."""
    opaque = pixels[pixels[..., 3] > 128]
    if not len(opaque):
        return False
    spread = opaque[:, :3].max(1).astype(int) - opaque[:, :3].min(1)
    return bool((spread > 50).mean() > 0.35)


class Composer:
    """Draws example number `position` of the stream: premultiplied RGBA pixels in -1..1 and their caption."""

    def __init__(self, arts: list[Art], seed: int, group_weights: dict[str, float] | None = None) -> None:
        """`group_weights`: how often a group's art is drawn, 1 where it is not named."""
        self._arts = arts
        self._seed = seed
        weights = np.array([(group_weights or {}).get(str(art.group), 1.0) for art in arts])
        self._weights = weights / weights.sum()
        self._hats = [art for art in arts if art.label in HATS]
        self._wearers = [art for art in arts if art.group in (SMILEYS, ANIMALS) and "face" in art.label]
        self._things = [art for art in arts if art.group != SMILEYS]

    def batch(self, position: int, size: int) -> tuple[np.ndarray, list[str]]:
        """`size` examples from `position` on: float32 [size, 4, h, w] and captions."""
        pairs = [self.example(position + i) for i in range(size)]
        pixels = np.stack([pixels for pixels, _ in pairs]).astype(np.float32) / 127.5 - 1
        return pixels.transpose(0, 3, 1, 2), [caption for _, caption in pairs]

    def example(self, position: int) -> tuple[np.ndarray, str]:
        rng = np.random.default_rng((self._seed, position))
        kind = rng.random()
        if kind < 0.05 and self._hats and self._wearers:
            return self._wearing(rng)
        if kind < 0.09 and self._things:
            return self._side_by_side(rng)
        art = self._arts[rng.choice(len(self._arts), p=self._weights)]
        pixels, noun = art.pixels, _name(art, rng)
        if rng.random() < 0.25 and art.colourful:
            colour = list(COLOURS)[rng.integers(len(COLOURS))]
            pixels, noun = tint(pixels, COLOURS[colour]), f"{colour} {_without_colour(art.label)}"
        if rng.random() < 0.5:
            pixels = pixels[:, ::-1]
        return _jitter(pixels, rng), _phrase(noun, rng)

    def _wearing(self, rng: np.random.Generator) -> tuple[np.ndarray, str]:
        wearer = self._wearers[rng.integers(len(self._wearers))]
        hat = self._hats[rng.integers(len(self._hats))]
        size = wearer.pixels.shape[0]
        canvas = np.zeros_like(wearer.pixels)
        _place(canvas, wearer.pixels, size // 8, size - size * 3 // 4, size * 3 // 4)
        _place(canvas, hat.pixels, size * 9 // 32, 0, size * 7 // 16)
        noun = wearer.label.removesuffix(" face") if wearer.group == ANIMALS else wearer.label
        return canvas, f"{_with_article(noun)} wearing a {hat.label}"

    def _side_by_side(self, rng: np.random.Generator) -> tuple[np.ndarray, str]:
        left, right = (self._things[i] for i in rng.choice(len(self._things), 2, replace=False))
        size = left.pixels.shape[0]
        canvas = np.zeros_like(left.pixels)
        half, top = size // 2, size // 4
        if rng.random() < 0.5:
            places, words = ((0, top), (half, top)), "next to"
        else:
            places, words = ((top, 0), (top, half)), "above"
        for art, (x, y) in zip((left, right), places, strict=True):
            _place(canvas, art.pixels, x, y, half)
        return canvas, f"{_with_article(left.label)} {words} {_with_article(right.label)}"


def tint(pixels: np.ndarray, hue: float) -> np.ndarray:
    """Turn every saturated pixel of premultiplied [h, w, 4] uint8 art to one hue, keeping its light and shade."""
    image = Image.fromarray(pixels, "RGBa").convert("RGBA")
    hsv = np.asarray(image.convert("RGB").convert("HSV")).copy()
    hsv[..., 0] = int(hue * 255)
    tinted = Image.fromarray(hsv, "HSV").convert("RGB")
    tinted.putalpha(image.getchannel("A"))
    return np.asarray(tinted.convert("RGBa"))


def _place(canvas: np.ndarray, pixels: np.ndarray, x: int, y: int, size: int) -> None:
    """Composite `pixels`, scaled to `size`, over `canvas` at (x, y), in place."""
    scaled = np.asarray(Image.fromarray(pixels, "RGBa").resize((size, size), Image.Resampling.BOX)).astype(np.float32)
    region = canvas[y : y + size, x : x + size]
    region[:] = np.clip(scaled + region * (1 - scaled[..., 3:] / 255), 0, 255).astype(np.uint8)


def _jitter(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Shift by up to a thirty-second of the width; what leaves the frame is cut."""
    reach = max(1, pixels.shape[0] // 32)
    dx, dy = rng.integers(-reach, reach + 1, 2)
    shifted = np.zeros_like(pixels)
    height, width = pixels.shape[:2]
    shifted[max(dy, 0) : height + min(dy, 0), max(dx, 0) : width + min(dx, 0)] = pixels[
        max(-dy, 0) : height + min(-dy, 0), max(-dx, 0) : width + min(-dx, 0)
    ]
    return shifted


def _name(art: Art, rng: np.random.Generator) -> str:
    """The label, now and then with a tag beside it, as people would add a word."""
    if art.names and rng.random() < 0.15:
        return f"{art.label}, {art.names[rng.integers(len(art.names))]}"
    if art.label.endswith(" face") and art.group == ANIMALS and rng.random() < 0.5:
        return art.label.removesuffix(" face")
    return art.label


def _without_colour(label: str) -> str:
    return " ".join(word for word in label.split() if word not in COLOUR_WORDS) or label


def _with_article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _phrase(noun: str, rng: np.random.Generator) -> str:
    return _with_article(noun) if rng.random() < 0.7 else noun
