"""The pictures that a checkpoint draws after: found by what a prompt names, laid out as it says.

Retrieval gives a small network the shapes it never learnt (the idea of Blattmann 2022, "Retrieval-Augmented Diffusion
Models", in pixels). A folder of references is pictures.webp, squares side by side in rows; index.json, what each of
them shows; vectors.safetensors, their names' sentence vectors.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from t2i.api import CheckpointError
from t2i.families.collage import Layer, Part, Pixels, bare, compose, jittered, read_scene, singular

Encode = Callable[[list[str]], Tensor]
"""Texts to their normalised sentence vectors [n, dim]."""

PICTURES, INDEX, VECTORS = "pictures.webp", "index.json", "vectors.safetensors"
_COLUMNS = 32
_REMEMBERED = 256
_LEAST = 0.55
"""Likeness below which nothing is found: rather no picture than a wrong one."""
_NEARLY = 0.04
"""How much less alike than the best a picture may be to be taken as well, for variety."""
_NAMED, _MENTIONED, _FACE = 0.35, 0.12, 0.05
"""What an equal name, common words, and a face, where something is worn, add to the likeness."""


@dataclass(frozen=True, slots=True)
class Entry:
    label: str
    tags: tuple[str, ...]

    @property
    def words(self) -> set[str]:
        return {*self.label.split(), *self.tags}

    def is_called(self, noun: str) -> bool:
        """By its name, with or without the face, one or many."""
        return singular(noun) in {singular(name) for name in (self.label, self.label.removesuffix(" face"))}


class References:
    """Pictures [side, side] with names, and the collages made of them."""

    def __init__(self, pictures: Sequence[Pixels], entries: Sequence[Entry], vectors: Tensor, encode: Encode) -> None:
        self._pictures = pictures
        self._entries = entries
        self._vectors = vectors
        self._encode = encode
        self._found = lru_cache(_REMEMBERED)(self._read)
        self.side = len(pictures[0])

    @classmethod
    def load(cls, folder: Path, encode: Encode) -> References:
        """Raises CheckpointError."""
        try:
            index = json.loads((folder / INDEX).read_text())
            with Image.open(folder / PICTURES) as image:
                atlas = np.asarray(image.convert("RGBA").convert("RGBa"))
            vectors = load_file(folder / VECTORS)["vectors"].float()
            entries = [Entry(entry["label"], tuple(entry["tags"])) for entry in index["entries"]]
            side = int(index["side"])
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise CheckpointError(f"The reference pictures in {folder.parent.name} cannot be read.") from error
        squares = [
            atlas[row : row + side, column : column + side]
            for row in range(0, atlas.shape[0], side)
            for column in range(0, atlas.shape[1], side)
        ]
        return cls(squares[: len(entries)], entries, torch.nn.functional.normalize(vectors, dim=-1), encode)

    def know(self, prompt: str) -> bool:
        """Whether there is a picture of anything that the prompt names."""
        return any(self._found(prompt)[1])

    def collage(self, prompt: str, seed: int) -> Pixels | None:
        """What the prompt names, where it belongs, premultiplied RGBA [side, side, 4]; None when nothing is found.

        Every seed takes other pictures of what is asked for, turns and places them a little differently.
        """
        rng = np.random.default_rng(seed)
        layers = [self._layer(part, found, rng) for part, found in zip(*self._found(prompt), strict=True) if found]
        return compose(layers, self.side) if layers else None

    def _read(self, prompt: str) -> tuple[list[Part], list[list[int]]]:
        """The parts of the scene, and the pictures there are of each."""
        whole = bare(prompt)
        if any(entry.is_called(whole) for entry in self._entries):
            parts = [Part(whole)]
        else:
            parts = [self._named(part) for part in read_scene(prompt)]
        worn = any(part.worn for part in parts)
        return parts, [self.find(part.noun, as_face=worn and not part.worn) for part in parts]

    def _named(self, part: Part) -> Part:
        """A part whose colour is in a picture's name, as in "red heart", needs no tint."""
        named = f"{part.colour} {part.noun}"
        if part.colour and any(entry.is_called(named) for entry in self._entries):
            return replace(part, noun=named, colour=None)
        return part

    def find(self, noun: str, *, as_face: bool = False) -> list[int]:
        """Pictures of a thing, the best first and others nearly as good; none where there is nothing like it."""
        words = set((noun.rsplit(" of ", 1)[-1]).split())
        likeness = (self._vectors @ self._encode([noun])[0].float().cpu()).float().numpy().copy()
        most = likeness.max()
        for number, entry in enumerate(self._entries):
            if entry.is_called(noun):
                # A cat and the face of a cat are both a cat.
                likeness[number] = most + _NAMED
            else:
                likeness[number] += _MENTIONED * len(words & entry.words) / max(1, len(words))
            if as_face and entry.label.endswith("face"):
                likeness[number] += _FACE
        best = np.argsort(-likeness)[:4]
        return [int(number) for number in best if likeness[number] >= max(_LEAST, likeness[best[0]] - _NEARLY)]

    def _layer(self, part: Part, found: list[int], rng: np.random.Generator) -> Layer:
        pixels = self._pictures[found[rng.integers(len(found))]]
        box = jittered(part.box, rng, shift=0.03, scale=0.05)
        return Layer(pixels, part.colour, box, part.worn, flipped=bool(rng.random() < 0.5))


def save(folder: Path, pictures: Sequence[Pixels], entries: Sequence[Entry], encode: Encode, *, quality: int) -> None:
    """Write a folder of references. The vectors are kept as int8, which moves them by less than a hundredth."""
    folder.mkdir(parents=True, exist_ok=True)
    side = len(pictures[0])
    atlas: npt.NDArray[np.uint8] = np.zeros((-(-len(pictures) // _COLUMNS) * side, _COLUMNS * side, 4), np.uint8)
    for number, pixels in enumerate(pictures):
        row, column = divmod(number, _COLUMNS)
        atlas[row * side : (row + 1) * side, column * side : (column + 1) * side] = pixels
    image = Image.fromarray(atlas, "RGBa").convert("RGBA")
    image.save(folder / PICTURES, quality=quality, alpha_quality=80, method=6)
    vectors = torch.cat([encode([entry.label for entry in entries[i : i + 64]]) for i in range(0, len(entries), 64)])
    scaled = (vectors / vectors.abs().amax(1, keepdim=True) * 127).round().to(torch.int8)
    save_file({"vectors": scaled}, folder / VECTORS)
    listed = [{"label": entry.label, "tags": list(entry.tags)} for entry in entries]
    (folder / INDEX).write_text(
        json.dumps({"side": side, "entries": listed}, ensure_ascii=False, separators=(",", ":"))
    )
