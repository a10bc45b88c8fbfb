"""Reference pictures: what is found for a prompt, and the collages made of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from t2i.api import CheckpointError
from t2i.families import references
from t2i.families.references import INDEX, PICTURES, Entry, References

RED, GREEN, BLUE = (220, 30, 30), (30, 200, 30), (30, 30, 220)
ENTRIES = [
    Entry("cat face", ("pet",)), Entry("apple", ("fruit", "snack")), Entry("green heart", ()), Entry("crown", ()),
    Entry("hot beverage", ("coffee", "drink")),
]  # fmt: skip
COLOURS = [RED, GREEN, GREEN, BLUE, BLUE]


def encode(texts: list[str]) -> torch.Tensor:
    """Texts are alike as far as they share words; a cup of coffee is a beverage."""
    known = ["cat", "face", "apple", "green", "heart", "crown", "hot", "beverage"]
    said = [text.replace("cup of coffee", "beverage").replace("apples", "apple").split() for text in texts]
    return torch.nn.functional.normalize(torch.tensor([[float(word in words) for word in known] for words in said]))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pictures = []
    for colour in COLOURS:
        pixels = np.zeros((16, 16, 4), np.uint8)
        pixels[1:-1, 1:-1] = (*colour, 255)
        pictures.append(pixels)
    references.save(tmp_path / "references", pictures, ENTRIES, encode, quality=90)
    return tmp_path / "references"


@pytest.fixture
def found(folder: Path) -> References:
    return References.load(folder, encode)


def labels(found: References, noun: str) -> list[str]:
    return [ENTRIES[number].label for number in found.find(noun)]


def test_a_name_is_found_and_a_tag_helps(found: References) -> None:
    assert labels(found, "cat")[0] == "cat face"
    assert labels(found, "apple") == labels(found, "apples") == ["apple"]
    assert labels(found, "cup of coffee")[0] == "hot beverage"
    assert labels(found, "zzz") == []


def test_a_collage_shows_what_is_named_where_it_belongs(found: References) -> None:
    both = found.collage("an apple above a crown", seed=1)
    assert both is not None
    upper, lower = both[2:6, 6:10].reshape(-1, 4).mean(0), both[10:14, 6:10].reshape(-1, 4).mean(0)
    assert upper[1] > upper[2] and lower[2] > lower[1]


def test_a_colour_tints_but_not_what_is_named_after_it(found: References) -> None:
    blue = found.collage("a blue apple", seed=1)
    heart = found.collage("a green heart", seed=1)
    assert blue is not None and heart is not None
    assert blue[8, 8, 2] > 150 > blue[8, 8, 0]
    assert abs(int(heart[8, 8, 1]) - GREEN[1]) < 12


def test_seeds_differ_and_repeat(found: References) -> None:
    first, again, other = (found.collage("a cat wearing a crown", seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_of_what_nobody_has_heard_there_is_no_picture(found: References) -> None:
    assert found.collage("zzz", 1) is None and not found.know("zzz")
    assert found.know("a zzz next to an apple")


def test_damaged_references_are_named(folder: Path) -> None:
    (folder / INDEX).write_text("{}")
    with pytest.raises(CheckpointError, match="reference pictures"):
        References.load(folder, encode)
    (folder / PICTURES).write_bytes(b"no picture")
    with pytest.raises(CheckpointError, match="reference pictures"):
        References.load(folder, encode)
