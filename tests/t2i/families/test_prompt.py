"""Weights in prompts: what brackets mean, and that whatever is typed is read."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2i.families.prompt import MAX_WEIGHT, Span, parse_weights, plain

BRACKETS = "()[]"
NOISE = st.text(alphabet=st.sampled_from("ab ,:.-+019()[]\\"))
TEXT = st.text(alphabet=st.characters(exclude_characters=BRACKETS + "\\:", exclude_categories=["Cs"]), max_size=6)


@pytest.mark.parametrize(
    ("prompt", "spans"),
    [
        ("", []),
        ("a  cat ", [("a  cat ", 1.0)]),
        ("a (red) cat", [("a ", 1.0), ("red", 1.1), (" cat", 1.0)]),
        ("a (red:1.3) cat", [("a ", 1.0), ("red", 1.3), (" cat", 1.0)]),
        ("a [red] cat", [("a ", 1.0), ("red", 1 / 1.1), (" cat", 1.0)]),
        ("((red))", [("red", 1.21)]),
        ("([red])", [("red", 1.0)]),
        ("(a (red:2) cat:1.5)", [("a ", 1.5), ("red", 3.0), (" cat", 1.5)]),
        ("(a)(b)", [("ab", 1.1)]),
        ("(red: .5 )", [("red", 0.5)]),
        ("(red:9)", [("red", MAX_WEIGHT)]),
        ("(red:-1)", [("red", 0.0)]),
        ("((red:3):3)", [("red", MAX_WEIGHT)]),
        ("((((red:3):3):3):0)", [("red", 0.0)]),
        ("(red:abc)", [("red:abc", 1.1)]),
        ("(red:)", [("red:", 1.1)]),
        ("(at 10:30 sharp)", [("at 10:30 sharp", 1.1)]),
        ("red:1.3", [("red:1.3", 1.0)]),
        ("[red:1.3]", [("red:1.3", 1 / 1.1)]),
        (r"\(red\) \[cat\]", [("(red) [cat]", 1.0)]),
        (r"(red \(dark\):1.2)", [("red (dark)", 1.2)]),
        (r"a\b", [(r"a\b", 1.0)]),
        ("a (red cat", [("a (red cat", 1.0)]),
        ("a red:1.3) cat", [("a red:1.3) cat", 1.0)]),
        (":) (red)", [(":) ", 1.0), ("red", 1.1)]),
        ("(a [b) c]", [("a [b", 1.1), (" c]", 1.0)]),
        ("[a (b] c)", [("a (b", 1 / 1.1), (" c)", 1.0)]),
        ("((a)", [("(", 1.0), ("a", 1.1)]),
    ],
)
def test_brackets_mean_what_they_are_said_to(prompt: str, spans: list[tuple[str, float]]) -> None:
    parsed = parse_weights(prompt)
    assert [span.text for span in parsed] == [text for text, _ in spans]
    assert [span.weight for span in parsed] == pytest.approx([weight for _, weight in spans])


@given(st.text(alphabet=st.characters(exclude_characters=BRACKETS), min_size=1))
def test_text_without_brackets_comes_back_whole(prompt: str) -> None:
    assert parse_weights(prompt) == [Span(prompt)]


@given(st.text())
def test_escaped_text_comes_back_whole(text: str) -> None:
    text = text.replace("\\", "")
    escaped = "".join("\\" + character if character in BRACKETS else character for character in text)
    assert plain(escaped) == text


@given(st.text() | NOISE)
def test_every_string_is_read(prompt: str) -> None:
    spans = parse_weights(prompt)
    assert all(span.text and 0 <= span.weight <= MAX_WEIGHT for span in spans)
    assert all(one.weight != other.weight for one, other in pairwise(spans))


@given(st.text() | NOISE)
def test_no_letter_is_lost(prompt: str) -> None:
    def letters(text: str) -> str:
        return "".join(character for character in text if character not in BRACKETS + "\\:.+-0123456789 \t")

    assert letters(plain(prompt)) == letters(prompt)


Pieces = list[tuple[str, float]]


@st.composite
def _weighted(draw: st.DrawFn, children: st.SearchStrategy[tuple[str, Pieces]]) -> tuple[str, Pieces]:
    """Prompts in one more pair of brackets, side by side, and the weight of every character in them."""
    inside = draw(st.lists(children, max_size=3))
    kind = draw(st.sampled_from(["none", "(", "[", "number"]))
    number = draw(st.integers(50, 120)) / 100
    opening, closing, factor = {
        "none": ("", "", 1.0),
        "(": ("(", ")", 1.1),
        "[": ("[", "]", 1 / 1.1),
        "number": ("(", f":{number})", number),
    }[kind]
    text = opening + "".join(prompt for prompt, _ in inside) + closing
    return text, [(character, weight * factor) for _, pieces in inside for character, weight in pieces]


@given(st.recursive(TEXT.map(lambda text: (text, [(character, 1.0) for character in text])), _weighted, max_leaves=6))
def test_nested_weights_multiply(prompt: tuple[str, Pieces]) -> None:
    text, expected = prompt
    found = [(character, span.weight) for span in parse_weights(text) for character in span.text]
    assert [character for character, _ in found] == [character for character, _ in expected]
    assert [weight for _, weight in found] == pytest.approx([min(weight, MAX_WEIGHT) for _, weight in expected])


@pytest.mark.parametrize(
    "prompt",
    [
        "(" * 200_000,
        ")" * 200_000,
        "(a" * 100_000 + ")" * 100_000,
        "([" * 50_000 + ")]" * 50_000,
        "(a:" + "1" * 200_000,
        "(a:" + "1" * 200_000 + ")",
        "(a:" + " " * 200_000 + "x)",
        ":1" * 100_000,
    ],
    ids=lambda prompt: prompt[:6],
)
def test_a_prompt_takes_time_in_proportion_to_its_length(prompt: str) -> None:
    start = time.perf_counter()
    parse_weights(prompt)
    assert time.perf_counter() - start < 5
