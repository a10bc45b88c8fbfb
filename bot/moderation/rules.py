"""Which prompts the bot refuses: a short floor of words, plus the operator's own.

A word is looked for whole, after folding away the usual disguises: compatibility forms and case (NFKC, casefold),
accents, invisible characters, letters borrowed from other alphabets, digits and signs used as letters, stretched
letters, and separators between letters. "Scunthorpe" and "cocktail" therefore pass whatever words they contain.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from bot.errors import PromptRefused

FORBIDDEN = (
    "bestiality", "beastiality", "blowjob", "bukkake", "child porn", "creampie", "cumshot", "cunt", "deepfake nude",
    "gangbang", "hentai", "incest", "jailbait", "loli", "lolicon", "necrophilia", "pedo", "paedo", "pedophile",
    "paedophile", "pedophilia", "paedophilia", "porn", "porno", "pornography", "pornographic", "rape", "raped",
    "raping", "rapist", "revenge porn", "shota", "shotacon", "snuff film", "upskirt", "zoophilia",
)  # fmt: skip
"""Refused wherever they stand."""

MINORS = (
    "babies", "baby", "boy", "child", "children", "girl", "infant", "kid", "minor", "preteen", "schoolboy",
    "schoolgirl", "teen", "teenager", "toddler", "underage",
)  # fmt: skip
SEXUAL = (
    "erotic", "fetish", "lewd", "lingerie", "naked", "nsfw", "nude", "orgasm", "seductive", "sex", "sexual",
    "sexualised", "sexualized", "sexy", "topless", "undressed",
)  # fmt: skip
"""Refused in a prompt that also speaks of minors."""

# Letters of other alphabets that read as Latin ones; NFKC leaves them apart.
_BORROWED = str.maketrans("аеорсухіјѕһӏԁԛԝкмтвнαεικνορτυχıł", "aeopcyxijshldqwkmtbhaeikvoptuxil")

# What stands for a letter besides itself.
_DISGUISES = {"a": "4@", "b": "8", "e": "3€", "g": "9", "i": "1!|", "l": "1|", "o": "0", "s": "5$", "t": "7+", "z": "2"}
_GLUE, _GAP = "[._*~-]*", r"[\W_]+"
_BEFORE, _AFTER = r"(?<![^\W_])", r"(?:e?s)?(?![^\W_])"


class PromptRules:
    """The words of one bot, ready to check prompts. Stateless, so one object serves everyone."""

    def __init__(self, extra_words: Iterable[str] = ()) -> None:
        self._forbidden = _any_of((*FORBIDDEN, *extra_words))
        self._minors = _any_of(MINORS)
        self._sexual = _any_of(SEXUAL)

    def check(self, *texts: str | None) -> None:
        """Check a prompt and its negative prompt. Raises PromptRefused naming the word; None and "" pass."""
        for text in filter(None, texts):
            folded = _fold(text)
            if found := self._forbidden.search(folded):
                raise PromptRefused(f"This bot does not draw “{found.group().strip()}”. Nothing was queued.")
            if self._minors.search(folded) and self._sexual.search(folded):
                raise PromptRefused("This bot does not draw minors in a sexual way. Nothing was queued.")


def _fold(text: str) -> str:
    """The text as it reads: one case, one alphabet, no accents, nothing invisible."""
    spread = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).casefold())
    visible = (char for char in spread if unicodedata.category(char) not in ("Cf", "Mn", "Me", "Cc") or char.isspace())
    return "".join(visible).translate(_BORROWED)


def _any_of(words: Iterable[str]) -> re.Pattern[str]:
    patterns = (_disguised(_fold(word)) for word in words if word.strip())
    return re.compile(f"{_BEFORE}(?:{'|'.join(patterns)}){_AFTER}")


def _disguised(word: str) -> str:
    """A pattern for one word: letters look-alike and stretched, glued by dots or dashes, or every letter apart."""
    glued = [_GLUE.join(map(_letter, part)) for part in word.split()]
    apart = map(_letter, "".join(word.split()))
    return f"{_GAP.join(glued)}|{_GAP.join(apart)}"


def _letter(char: str) -> str:
    return f"[{re.escape(char + _DISGUISES.get(char, ''))}]+"
