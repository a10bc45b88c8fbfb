"""The stream of examples: reproducible, composed as its captions say, and never what is held out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from t2i.training.captions import DatasetError
from t2i.training.data import Art, Composer, load_folder


def art(label: str, group: int | None = None, shade: int = 255) -> Art:
    return Art(np.full((32, 32, 4), (shade, 0, 0, 255), np.uint8), label, (), group)


def captions(arts: list[Art], count: int = 300) -> set[str]:
    composer = Composer(arts, seed=0)
    return {composer.example(position).caption for position in range(count)}


def test_an_example_depends_on_seed_and_position_alone() -> None:
    arts = [art("apple", 4), art("cat face", 3), art("crown", 7)]
    composer = Composer(arts, seed=1)
    composer.batch(0, 7)
    late, again = composer.batch(100, 5), Composer(arts, seed=1).batch(100, 5)
    assert np.array_equal(late.pixels, again.pixels) and np.array_equal(late.collages, again.collages)
    assert late.captions == again.captions
    assert not np.array_equal(late.pixels, Composer(arts, seed=2).batch(100, 5).pixels)


def test_hats_pairs_and_counts_are_composed() -> None:
    drawn = captions([art("dog face", 3), art("crown", 7), art("apple", 4)])
    assert "a dog wearing a crown" in drawn
    assert any(" next to " in caption for caption in drawn) and any(caption.startswith("two ") for caption in drawn)
    assert any(caption.startswith(("a blue", "blue")) for caption in drawn)


def test_what_is_held_out_is_never_composed() -> None:
    drawn = captions([art("cat face", 3), art("frog", 3), art("crown", 7)], 600)
    assert not any("crown" in caption and "wearing" in caption for caption in drawn)
    assert not any("green cat" in caption or "red frog" in caption for caption in drawn)
    assert any("blue cat" in caption for caption in drawn)


def test_a_collage_shows_the_scene_by_other_hands_and_is_empty_now_and_then() -> None:
    other = np.full((32, 32, 4), (0, 0, 255, 255), np.uint8)
    arts = [Art(np.full((32, 32, 4), (255, 0, 0, 255), np.uint8), "rose", (), None, (other,))]
    examples = [Composer(arts, seed=0).example(position) for position in range(200)]
    plain = [one for one in examples if one.caption in ("rose", "a rose")]
    empty = [one for one in plain if not one.collage.any()]
    blue = [one for one in plain if one.collage[..., 2].astype(int).sum() > one.collage[..., 0].astype(int).sum()]
    assert 0.05 < len(empty) / len(plain) < 0.3
    assert 0.3 < len(blue) / len(plain) < 0.75
    assert all(one.pixels[16, 16, 0] == 255 for one in plain)
    assert not any(Composer(arts, 0, collages=False).example(position).collage.any() for position in range(20))


def test_a_folder_of_pictures_with_text_files_is_enough(tmp_path: Path) -> None:
    for name in ("one", "two"):
        Image.new("RGB", (40, 20), "red").save(tmp_path / f"{name}.png")
    (tmp_path / "one.txt").write_text("a red flag\n")
    (only,) = load_folder(tmp_path, 16)
    assert only.label == "a red flag" and only.pixels.shape == (16, 16, 4)
    assert only.pixels[8, 8, 3] == 255 and only.pixels[0, 0, 3] == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no captions"),
        ("{", "not one JSON object a line"),
        (json.dumps({"file": "a.png"}), "lacks 'caption'"),
        (json.dumps({"file": "a.png", "caption": "a"}), "cannot be read as a picture"),
    ],
)
def test_a_folder_that_is_no_data_set_says_why(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "captions.jsonl").write_text(content)
    with pytest.raises(DatasetError, match=message):
        load_folder(tmp_path, 16)
