"""What no server can allow: a floor of words, and the operator's own (IMAGINE_BLOCKED_WORDS)."""

from __future__ import annotations

from collections.abc import Iterable

import re2

from bot.errors import PromptRefused
from bot.moderation.words import Reading, Words

FORBIDDEN = (
    "bestiality", "beastiality", "blowjob", "bukkake", "child porn", "creampie", "creepshot", "cumshot", "cunt",
    "deepfake nude", "deepfake porn", "downblouse", "gangbang", "hentai", "incest", "jailbait", "kiddie porn", "loli",
    "lolicon", "lolita nude", "molest", "molested", "molesting", "necrophilia", "nudify", "nudified", "pedo", "paedo",
    "pedobear", "pedofile", "pedophile", "paedophile", "pedophilia", "paedophilia", "porn", "porno", "pornhub",
    "pornstar", "pornography", "pornographic", "rape", "raped", "raping", "rapist", "revenge porn", "shota", "shotacon",
    "snuff film", "toddlercon", "upskirt", "zoophilia",
)  # fmt: skip
"""Refused wherever they stand."""

MINORS = (
    "adolescent", "babies", "baby", "barely legal", "boy", "child", "children", "daughter", "girl", "high schooler",
    "infant", "juvenile", "kid", "kiddie", "kiddy", "kindergartener", "kindergartner", "little sister", "lolita",
    "middle schooler", "minor", "newborn", "prepubescent", "preschooler", "preteen", "pubescent", "schoolboy",
    "schoolchild", "schoolchildren", "schoolgirl", "schoolkid", "stepdaughter", "teen", "teenage", "teenager",
    "toddler", "tween", "underage", "underaged", "young boy", "young girl", "youngster",
)  # fmt: skip
UNWILLING = (
    "against her will", "against his will", "against their will", "hidden camera", "deepfake", "drugged", "leaked",
    "non consensual", "passed out", "revenge", "sex tape", "spy cam", "spycam", "unconscious", "voyeur", "voyeuristic",
    "without consent", "without her consent", "without her knowledge", "without his consent", "without their consent",
)  # fmt: skip
SEXUAL = (
    "aroused", "bare breasts", "bdsm", "boobs", "breasts", "erotic", "erotica", "explicit", "fetish", "genitals",
    "having sex", "horny", "intercourse", "lewd", "lingerie", "masturbate", "masturbates", "masturbating", "naked",
    "nipples", "nsfw", "nude", "nudes", "nudity", "orgasm", "panties", "penis", "provocative", "seductive",
    "seductively", "sensual", "sex", "sexual", "sexualised", "sexualized", "sexually", "sexy", "stripper",
    "striptease", "suggestive", "thong", "topless", "unclothed", "undress", "undressed", "undressing", "vagina",
    "without clothes",
)  # fmt: skip
"""Refused in a prompt that also speaks of minors or of people who did not agree."""

INNOCENT = (
    "baby blue", "baby carrots?", "baby grand", "baby pink", "baby potato(?:es)?", "baby spinach", "boy scout",
    "chicken breasts?", "cowboys?", "duck breasts?", "explicit lyrics", "minor (?:key|chord|arcana|planet)s?",
    "[a-g] (?:flat |sharp )?minor", "naked eyes?", "naked mole rats?", "nude (?:colou?r|heels|lipstick|palette|pumps)",
    "opposite sex", "provocative question", "same sex", "sex ratio", "suggestive of", "the same sex", "turkey breasts?",
)  # fmt: skip
"""Regular expressions of phrases in which such a word means something else; they are no matter of either list."""

_TO_SEVENTEEN = (
    "[1-9]|1[0-7]|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen"
    "|seventeen"
)
_AGES = (
    rf"\b(?:{_TO_SEVENTEEN})[. ]*(?:(?:years?|yrs?)[. ]*olds?|y[. ]?o)\b"  # "12 years old", "9yo"
    r"|\bage[d.]*[. ]+(?:[1-9]|1[0-7])\b"
)


class Floor:
    """Stateless, so one object serves everyone."""

    def __init__(self, extra_words: Iterable[str] = ()) -> None:
        self._forbidden = Words((*FORBIDDEN, *extra_words))
        self._minors, self._unwilling, self._sexual = Words(MINORS), Words(UNWILLING), Words(SEXUAL)
        self._ages = re2.compile(_AGES)
        self._innocent = re2.compile(rf"\b(?:{'|'.join(INNOCENT)})\b")

    def check(self, reading: Reading) -> None:
        """Raises PromptRefused."""
        if (found := self._forbidden.found(reading)) is not None:
            raise PromptRefused(f"This bot does not draw “{found}”. Nothing was queued.")
        rest = Reading(reading.folded, self._innocent.sub(" ", reading.plain))
        if self._sexual.found(rest) is None:
            return
        if self._minors.found(rest) is not None or self._ages.search(rest.plain):
            raise PromptRefused("This bot does not draw minors in a sexual way. Nothing was queued.")
        if self._unwilling.found(rest) is not None:
            raise PromptRefused(
                "This bot does not draw anybody in a sexual way against their will. Nothing was queued."
            )
