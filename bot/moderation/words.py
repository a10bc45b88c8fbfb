"""Words as patterns that know their disguises, matched in linear time by RE2.

A word is looked for whole: "Scunthorpe" and "cocktail" pass whatever words they contain. Within a word letters may be
stretched, replaced by digits or stars, glued by signs, or all apart; its first or last letter may stand apart alone.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Any

import re2

from bot.moderation.folding import fold, plain, spelled

_DISGUISES = {
    "a": "4*", "b": "8", "c": "k", "e": "3*", "g": "96", "i": "1y*", "l": "1i", "o": "0*", "p": "9", "s": "5z",
    "t": "7", "u": "v*", "y": "i", "z": "2",
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
    """A text in the forms that patterns look at."""

    folded: str
    spelled: str
    plain: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> Reading:
        folded = fold(text)
        return cls(folded, spelled(folded), plain(folded))


class Words:
    """Looks for any of some words or phrases, as they are or in disguise."""

    def __init__(self, words: Iterable[str]) -> None:
        folded = {fold(word).strip() for word in words} - {""}
        latin = sorted(word for word in folded if word.isascii() and sum(map(str.isalnum, word)) >= _SHORTEST)
        self._latin = _either(map(disguised, latin))
        # "1011" is a number, though each of its digits could stand for a letter.
        self._fewest_letters = min([2, *map(_letters, latin)])
        others = sorted(word for word in folded if not word.isascii())
        self._others = _either(_as_written(word) for word in others if any(map(str.isalnum, word)))
        self._pictures = [word for word in others if not any(map(str.isalnum, word))]

    @property
    def empty(self) -> bool:
        """Nothing is left that could be looked for."""
        return self._latin is None and self._others is None and not self._pictures

    def found(self, reading: Reading) -> str | None:
        """The first of them, as it stands in the text."""
        if self._latin is not None:
            for match in chain.from_iterable(map(self._latin.finditer, reading.plain)):
                if _letters(match.group()) >= self._fewest_letters:
                    return str(match.group())
        if self._others is not None and (match := self._others.search(reading.spelled)):
            return str(match.group()).strip(" .")
        return next((picture for picture in self._pictures if picture in reading.folded), None)


def _either(patterns: Iterable[str]) -> Any:
    joined = "|".join(patterns)
    options = re2.Options()
    options.log_errors = False  # it writes to the standard error past all logging
    return re2.compile(f"(?:{joined})", options) if joined else None


def _letters(text: str) -> int:
    return sum(map(str.isalpha, text))


def disguised(word: str) -> str:
    """A pattern over plain text for a folded word or phrase, whose gaps may be closed."""
    parts = [list(part) for part in re.findall("[a-z0-9]+", word)]
    letters = [char for part in parts for char in part]
    ways = ["[.* ]*".join(f"(?:{_glued(part)}|{_apart(part)})" for part in parts), _apart(letters)]
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


def _apart(letters: list[str]) -> str:
    return _GAP.join(map(_letter, letters))


def _letter(char: str) -> str:
    return f"[{char}{_DISGUISES.get(char, '')}]+"


def _as_written(word: str) -> str:
    """A pattern over spelled text for a word that is not Latin: whole, where its script has words."""
    parts = spelled(word).replace(".", " ").split()
    letters = "[. ]+".join(r"\.*".join(map(re2.escape, part)) for part in parts)
    return f"{_boundary(parts[0][0], '^')}{letters}{_boundary(parts[-1][-1], '$')}"


def _boundary(char: str, anchor: str) -> str:
    """Scripts without capitals mostly write words without gaps, or with parts of speech attached."""
    return f"(?:{anchor}|[. ])" if unicodedata.category(char) in ("Lu", "Ll", "Nd") else ""
