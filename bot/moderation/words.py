"""Words as patterns that know their disguises, matched in linear time by RE2.

A word is looked for whole: "Scunthorpe" and "cocktail" pass whatever words they contain. Within a word letters may be
stretched, replaced by digits or stars, glued by signs, or all apart; its first or last letter may stand apart alone.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import re2

from bot.moderation.folding import fold, plain

_DISGUISES = {
    "a": "4*", "b": "8", "e": "3*", "g": "96", "i": "1*", "l": "1i", "o": "0*", "s": "5z", "t": "7", "u": "v*",
    "z": "2",
}  # fmt: skip
_WORDS_OF_ONE_LETTER = "aio"
_GLUE, _GAP = "[.*]*", "[.* ]+"
_PLURAL = "(?:e?[s5z]+)?"
_SHORTEST = 2
"""Letters and digits of a Latin word that is looked for at all: "c++" would be every "c"."""
_SHORTEST_SPLIT = 4
"""Letters of a word that is known with one letter apart; of shorter ones little would be left."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A text in the two forms that patterns look at."""

    folded: str
    plain: str

    @classmethod
    def of(cls, text: str) -> Reading:
        folded = fold(text)
        return cls(folded, plain(folded))


class Words:
    """Looks for any of some words or phrases, as they are or in disguise."""

    def __init__(self, words: Iterable[str]) -> None:
        folded = {fold(word).strip() for word in words} - {""}
        latin = sorted(word for word in folded if word.isascii() and sum(map(str.isalnum, word)) >= _SHORTEST)
        self._latin = _either(map(_disguised, latin))
        self._with_letters = not any(_has_no_letter(word) for word in latin)
        self._others = _either(map(_as_written, sorted(word for word in folded if not word.isascii())))

    @property
    def empty(self) -> bool:
        """Nothing is left that could be looked for."""
        return self._latin is None and self._others is None

    def found(self, reading: Reading) -> str | None:
        """The first of them, as it stands in the text."""
        if self._latin is not None:
            for match in self._latin.finditer(reading.plain):
                # "1011" is a number, though each of its digits could stand for a letter.
                if not (self._with_letters and _has_no_letter(match.group())):
                    return str(match.group())
        if self._others is not None and (match := self._others.search(reading.folded)):
            return str(match.group()).strip()
        return None


def _either(patterns: Iterable[str]) -> Any:
    joined = "|".join(patterns)
    return re2.compile(f"(?:{joined})") if joined else None


def _has_no_letter(text: str) -> bool:
    return not any(char.isalpha() for char in text)


def _disguised(word: str) -> str:
    """A pattern over plain text. The gaps of a phrase may be closed."""
    parts = [[char for char in part if char.isalnum()] for part in plain(word).replace(".", " ").split()]
    letters = [char for part in parts for char in part]
    ways = ["[.* ]*".join(_glued(part) for part in parts), _GAP.join(map(_letter, letters))]
    if len(parts) == 1 and len(letters) >= _SHORTEST_SPLIT:
        if letters[0] not in _WORDS_OF_ONE_LETTER:
            ways.append(_letter(letters[0]) + _GAP + _glued(letters[1:]))
        if letters[-1] not in _WORDS_OF_ONE_LETTER:
            ways.append(_glued(letters[:-1]) + _GAP + _letter(letters[-1]))
    return rf"\b(?:{'|'.join(ways)}){_PLURAL}\b"


def _glued(letters: list[str]) -> str:
    """Signs may stand between them, but cut off no word of one letter: "a shot,a woman" names nobody."""
    pattern = _letter(letters[0])
    for place, letter in enumerate(letters[1:], 1):
        first_alone = place == 1 and letters[0] in _WORDS_OF_ONE_LETTER
        last_alone = place == len(letters) - 1 and letter in _WORDS_OF_ONE_LETTER
        pattern += ("" if first_alone or last_alone else _GLUE) + _letter(letter)
    return pattern


def _letter(char: str) -> str:
    return f"[{char}{_DISGUISES.get(char, '')}]+"


def _as_written(word: str) -> str:
    """A pattern over folded text for a word that is not Latin: whole, where its script has words."""
    letters = r"[^\pL\pN]+".join(r"[^\pL\pN\s]*".join(map(re2.escape, part)) for part in word.split())
    before, after = (_boundary(char, anchor) for char, anchor in ((word[0], "^"), (word[-1], "$")))
    return f"{before}{letters}{after}"


def _boundary(char: str, anchor: str) -> str:
    """Scripts without capitals mostly write words without gaps, or with parts of speech attached."""
    return rf"(?:{anchor}|[^\pL\pN])" if unicodedata.category(char) in ("Lu", "Ll", "Nd") else ""
