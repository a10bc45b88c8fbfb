"""What no server can allow: a floor of words, and the operator's own (IMAGINE_BLOCKED_WORDS)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import re2

from bot.errors import PromptRefused
from bot.moderation.words import Reading, Words, disguised

FORBIDDEN = (
    "bestiality", "beastiality", "blowjob", "bukkake", "child porn", "creampie", "creepshot", "cumshot", "cunt",
    "deepfake nude", "deepfake porn", "downblouse", "gangbang", "hentai", "incest", "jailbait", "kiddie porn", "loli",
    "lolicon", "lolita nude", "molest", "molested", "molesting", "necrophilia", "nudify", "nudified", "pedo", "paedo",
    "pedobear", "pedofile", "pedophile", "paedophile", "pedophilia", "paedophilia", "porn", "porno", "pornhub",
    "pornstar", "pornography", "pornographic", "pr0n", "rape", "raped", "raping", "rapist", "revenge porn", "shota",
    "shotacon", "snuff film", "toddlercon", "upskirt", "zoophilia",
    "kinderporno", "niña desnuda", "niñas desnudas", "niño desnudo", "niños desnudos", "pornografia", "pornographie",
    "vergewaltigung",
    "детское порно", "изнасилование", "педофил", "порно",
    "ショタコン", "レイプ", "ロリエロ", "ロリコン", "ロリ画像", "児童ポルノ", "ポルノ", "儿童色情", "强奸", "強姦",
    "아동 포르노", "포르노", "강간",
)  # fmt: skip
"""Refused wherever they stand."""

MINORS = (
    "adolescent", "babies", "baby", "barely legal", "boy", "child", "children", "daughter", "girl", "high schooler",
    "infant", "juvenile", "kid", "kiddie", "kiddy", "kindergartener", "kindergartner", "little sister", "lolita",
    "middle schooler", "minor", "newborn", "prepubescent", "preschooler", "preteen", "pubescent", "schoolboy",
    "schoolchild", "schoolchildren", "schoolgirl", "schoolkid", "stepdaughter", "teen", "teenage", "teenager",
    "toddler", "tween", "underage", "underaged", "young boy", "young girl", "youngster",
    "bambina", "bambino", "criança", "çocuk", "dziecko", "dziewczynka", "enfant", "fillette", "kinder", "kleines kind",
    "mädchen", "menina", "menino", "menor de edad", "mineur", "mineure", "nacktes kind", "niña pequeña",
    "niño pequeño", "ragazzina",
    "девочка", "девочки", "дети", "подросток", "ребёнок", "школьница",
    "女児", "小女孩", "小学生", "少女", "幼女", "幼童", "中学生", "未成年", "儿童", "子供", "ロリータ",
    "소녀", "아이", "어린이", "초등학생",
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
    "wearing nothing", "without clothes",
    "çıplak", "desnuda", "desnudo", "erótica", "erótico", "érotique", "goła", "nackt", "nackte", "nackter", "nacktes",
    "nua", "nuda", "nue", "голая", "голые", "голый", "секс", "эротика",
    "裸", "裸体", "ヌード", "エロ", "セックス", "色情", "누드", "섹스", "알몸", "야한",
)  # fmt: skip
"""Refused in a prompt that also speaks of minors or of people who did not agree."""

INNOCENT = (
    "baby blue", "baby carrots?", "baby grand", "baby pink", "baby potato(?:es)?", "baby spinach", "chicken breasts?",
    "duck breasts?", "explicit lyrics", "game boys?", "minor (?:key|chord|arcana|planet)s?",
    "[a-g] (?:flat |sharp )?minor", "naked eyes?", "naked mole rats?", "nude (?:colou?r|heels|lipstick|palette|pumps)",
    "opposite sex", "provocative question", "same sex", "sex ratio", "suggestive of", "turkey breasts?",
)  # fmt: skip
"""Regular expressions of phrases in which such a word means something else; they are no matter of either list."""

_TO_SEVENTEEN = (
    "[1-9]|1[0-7]|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen"
    "|seventeen"
)
_AGES = (
    rf"\b(?:{_TO_SEVENTEEN})[. ]*(?:(?:years?|yrs?)[. ]*olds?\b|y[. ]?o\b"  # "12 years old", "9yo"
    rf"|{disguised('year old')}|{disguised('years old')})"
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
        rest = replace(reading, plain=tuple(self._innocent.sub(" ", form) for form in reading.plain))
        if self._sexual.found(rest) is None:
            return
        if self._minors.found(rest) is not None or any(map(self._ages.search, rest.plain)):
            raise PromptRefused("This bot does not draw minors in a sexual way. Nothing was queued.")
        if self._unwilling.found(rest) is not None:
            raise PromptRefused(
                "This bot does not draw anybody in a sexual way against their will. Nothing was queued."
            )
