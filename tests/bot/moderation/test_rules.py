"""The prompt filter: what it must let pass, and the disguises it must see through."""

import pytest

from bot.errors import PromptRefused
from bot.moderation.floor import Floor
from bot.moderation.rules import texts
from bot.moderation.words import Reading
from bot.prompt.options import JobOptions

rules = Floor(extra_words=["cock", "acme robot", "Müll"])


def check(prompt: str, negative: str | None = None) -> None:
    for text in texts(JobOptions(prompt=prompt, negative_prompt=negative)):
        rules.check(Reading.of(text))


PASS = [
    "a red apple",
    "a postcard from Scunthorpe",
    "a cocktail on a beach in Essex",
    "grapes and a therapist, a rapeseed field",
    "a classical marble nude, museum light",
    "a naked mole rat",
    "two boys flying a kite",
    "PORNIC, a harbour town",
    "children reading in Middlesex",
    "drapery study, 4k, 1girl, 8 apples",
    "pedometer on a wrist",
    "lollipops in a jar",
    "a peacock and a cockpit",
    "",
    "🍎🍏",
    "赤いりんご",
]

REFUSED = [
    "porn",
    "PORN!",
    "some p0rn, please",
    "p.o.r.n",
    "p o r n",
    "p_o_r_n",
    "pооrn",  # two Cyrillic letters
    "ＰＯＲＮ",
    "𝓹𝓸𝓻𝓷",
    "po\u200brn",
    "p\u00adorn",
    "pörn",
    "poooorn",
    "child\nporn",
    "child-porn",
    "l0l1",
    "r@pe",
    "Hеntаi",
    "a naked child",
    "sexy schoolgirls",
    "a n4ked t33nager",
    "a cock",
    "ACME  robots",
    "mull",
]


@pytest.mark.parametrize("prompt", PASS)
def test_lets_ordinary_prompts_pass(prompt: str) -> None:
    check(prompt)


@pytest.mark.parametrize("prompt", REFUSED)
def test_sees_through_disguises(prompt: str) -> None:
    with pytest.raises(PromptRefused, match="Nothing was queued"):
        check(prompt)


def test_checks_the_negative_prompt_as_well() -> None:
    with pytest.raises(PromptRefused, match="hentai"):
        check("a red apple", "hentai")


def test_the_operators_words_are_not_everyones() -> None:
    Floor().check(Reading.of("a cock on a weathervane"))
