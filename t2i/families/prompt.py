"""Weights in prompts: `(word)` counts more, `(word:1.3)` as much as it says, `[word]` less."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

STEP = 1.1
"""What one pair of brackets multiplies or divides by."""
MAX_WEIGHT = 4.0

_MARK = re.compile(r"\\[()\[\]]|[(\[\]]|(?::\s*+([+-]?(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++))\s*+)?\)")
"""An escaped bracket, a bracket, or a closing one with the weight before it."""


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of a prompt, without its brackets, and how much it counts, 0..MAX_WEIGHT."""

    text: str
    weight: float = 1.0


def parse_weights(prompt: str) -> list[Span]:
    """The prompt in pieces, neighbours of different weight; never an error, and nothing for an empty prompt.

    Weights of nested brackets multiply. A backslash makes the bracket after it a character like others, and so is a
    bracket without its counterpart. A colon before a closing bracket that no number follows is text. Linear time.
    """
    pieces = _pieces(prompt)
    return [
        Span("".join(text for text, _ in group), weight)
        for weight, group in groupby((piece for piece in pieces if piece[0]), key=lambda piece: piece[1])
    ]


def plain(prompt: str) -> str:
    """The prompt without its weights, for models that cannot weigh."""
    return "".join(span.text for span in parse_weights(prompt))


def _pieces(prompt: str) -> Iterator[tuple[str, float]]:
    marks = list(_MARK.finditer(prompt))
    factors, closing = _pairs(marks)
    weights = [1.0]
    position = 0
    for index, mark in enumerate(marks):
        yield prompt[position : mark.start()], weights[-1]
        position = mark.end()
        if index in factors:
            weights.append(min(MAX_WEIGHT, weights[-1] * factors[index]))
        elif index in closing:
            weights.pop()
        else:
            yield mark[0].removeprefix("\\"), weights[-1]
    yield prompt[position:], weights[-1]


def _pairs(marks: list[re.Match[str]]) -> tuple[dict[int, float], set[int]]:
    """The factor of every opening mark that is closed, and the marks that close one, by their indices."""
    factors: dict[int, float] = {}
    closing: set[int] = set()
    waiting: dict[str, list[int]] = {"(": [], "[": []}
    for index, mark in enumerate(marks):
        bracket = mark[0][-1]
        if mark[0][0] == "\\":
            continue
        if bracket in waiting:
            waiting[bracket].append(index)
            continue
        own, other = ("(", "[") if bracket == ")" else ("[", "(")
        if not waiting[own]:
            continue
        opening = waiting[own].pop()
        # Brackets of the other kind that opened inside cannot close outside.
        while waiting[other] and waiting[other][-1] > opening:
            waiting[other].pop()
        closing.add(index)
        factors[opening] = _factor(mark)
    return factors, closing


def _factor(closing: re.Match[str]) -> float:
    if closing[0] == "]":
        return 1 / STEP
    return STEP if closing[1] is None else min(MAX_WEIGHT, max(0.0, float(closing[1])))
