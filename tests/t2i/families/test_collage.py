"""What the layout rules read out of prompts, and what they do to pixels."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2i.families.collage import COLOUR_WORDS, Box, box_on, place, read_scene, tint


def square(colour: tuple[int, int, int], size: int = 16) -> np.ndarray:
    pixels = np.zeros((size, size, 4), np.uint8)
    pixels[2:-2, 2:-2] = (*colour, 255)
    return pixels


@pytest.mark.parametrize(
    ("prompt", "parts"),
    [
        ("a red apple", [("apple", "red")]),
        ("An Apple!", [("apple", None)]),
        ("the little blue whale, 3d render", [("whale", "blue")]),
        ("a rainbow", [("rainbow", None)]),
        ("orange", [("orange", None)]),
        ("a cat wearing a crown", [("cat", None), ("crown", None)]),
        ("a green cat in a black hat and sunglasses", [("cat", "green"), ("top hat", "black"), ("sunglasses", None)]),
        ("a strawberry next to a yellow banana", [("strawberry", None), ("banana", "yellow")]),
        ("three blue fish", [("fish", "blue")] * 3),
        ("2 cherries", [("cherry", None)] * 2),
        ("a panda holding a balloon", [("panda", None), ("balloon", None)]),
        ("a fox with a guitar", [("fox", None), ("guitar", None)]),
        ("a bowl of soup", [("bowl of soup", None)]),
    ],
)
def test_a_prompt_is_read_into_things_and_colours(prompt: str, parts: list[tuple[str, str | None]]) -> None:
    assert [(part.noun, part.colour) for part in read_scene(prompt)] == parts


def test_above_and_below_say_which_is_where() -> None:
    upper, lower = read_scene("a bird above a house")
    assert (upper.noun, lower.noun) == ("bird", "house") and upper.box.top < lower.box.top
    first, second = read_scene("a bird below a house")
    assert (first.noun, second.noun) == ("bird", "house") and first.box.top > second.box.top


@given(st.text(max_size=60))
def test_any_text_is_a_scene_of_boxes_that_meet_the_canvas(prompt: str) -> None:
    parts = read_scene(prompt)
    assert 1 <= len(parts) <= 32
    assert all(part.box.left < 1 and part.box.top < 1 and part.box.side > 0 for part in parts)


@pytest.mark.parametrize("art", [(220, 40, 40), (200, 200, 200), (90, 90, 90)])
@pytest.mark.parametrize(("colour", "hue"), [("blue", 0.6), ("green", 0.33), ("pink", 0.9)])
def test_a_tint_colours_any_art_and_keeps_its_alpha(art: tuple[int, int, int], colour: str, hue: float) -> None:
    tinted = tint(square(art), colour)
    assert np.array_equal(tinted[..., 3], square(art)[..., 3])
    actual, saturation, _ = colorsys.rgb_to_hsv(*(tinted[8, 8, :3] / 255))
    assert abs(actual - hue) < 0.02 and saturation > 0.5
    assert (tinted[0, 0] == 0).all()


@pytest.mark.parametrize("colour", sorted(COLOUR_WORDS - {"rainbow"}))
def test_every_colour_gives_premultiplied_pixels(colour: str) -> None:
    tinted = tint(square((220, 40, 40)), colour)
    assert (tinted[..., :3] <= tinted[..., 3:]).all()


def test_what_leaves_the_canvas_is_cut() -> None:
    canvas = np.zeros((16, 16, 4), np.uint8)
    place(canvas, np.full((8, 8, 4), 255, np.uint8), Box(0.75, -0.25, 0.5))
    assert canvas[:4, 12:].all() and canvas.sum() == 4 * 4 * 4 * 255
    place(canvas, np.full((8, 8, 4), 255, np.uint8), Box(2.0, 0.0, 0.5))
    assert canvas.sum() == 4 * 4 * 4 * 255


def test_a_hat_sits_on_the_head_and_glasses_below_it() -> None:
    canvas = np.zeros((64, 64, 4), np.uint8)
    canvas[24:60, 10:54] = 255
    hat, glasses = box_on(canvas, "head"), box_on(canvas, "eyes")
    assert hat.top + hat.side == pytest.approx(24 / 64, abs=0.2)
    assert hat.left + hat.side / 2 == pytest.approx(0.5, abs=0.02)
    assert glasses.top > hat.top and glasses.top + glasses.side / 2 == pytest.approx(24 / 64 + 0.23, abs=0.05)
    assert box_on(np.zeros_like(canvas), "head").side > 0
