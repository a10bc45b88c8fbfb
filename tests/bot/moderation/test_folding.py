"""What folding promises for every text: it settles at once, hides nothing plain, and takes time as the text is long."""

from __future__ import annotations

import time
from contextlib import suppress

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bot.errors import PromptRefused
from bot.moderation.floor import Floor
from bot.moderation.folding import fold, plain
from bot.moderation.rules import texts
from bot.moderation.words import Reading, Words
from bot.prompt.options import JobOptions

TRICKY = "aÀÉ¡@$€|!+*/\\()<>:_1 ٣ΣσßſŉİıﬁﷺЯрⓅ🅰🇺🇸\u202e\u202c\u200b\u0301\u0316\u0345\u3164⠀㈠\n"
tricky = st.text(st.sampled_from(TRICKY), max_size=20)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("ＰＯＲＮ 𝓹𝓸𝓻𝓷 ⓟⓞⓡⓝ", "porn porn porn"),
        ("рοгn Ρ0RN", "poгn p0rn"),  # the second r is Cyrillic and only resembles one
        ("ᴘᴏʀɴ ɐʇ", "porn at"),
        ("🇵\u200b🇴\u200b🇷\u200b🇳 🅿️🅾️🆁🅽", "porn porn"),
        ("🇺🇸 made in 🇯🇵", "  made in  "),
        ("\u202enrop\u202c is not", "porn is not"),
        ("p\u200bo\u00ad\u2060r\ufe0f\u0338n", "porn"),
        ("<:nude_cat:123456> <a:Wave:1>", " nude_cat   wave "),
        ("/\\pple (|\\|ot) 4()k", "apple (not) 4ok"),
        ("٣ apples, a 4️⃣th", "3 apples, a 4th"),
        ("Straße, Łódź, œuvre", "strase, lodz, oeuvre"),
        ("赤いりんご 한국 привет", "赤いりんこ 한국 пpиbet"),
    ],
)
def test_a_text_becomes_what_it_reads_as(written: str, read: str) -> None:
    assert fold(written) == fold(read)
    assert fold(written).casefold() == fold(written)


@given(st.text(max_size=40) | tricky)
@example("＜:x:1＞")
@example("<:x:@>")
@example("Ά\u0345")
@settings(max_examples=300, deadline=None)
def test_folding_again_changes_nothing(text: str) -> None:
    assert fold(fold(text)) == fold(text)


@given(st.text("abcdefghijklmnopqrstuvwxyz0123456789 .,-'?", max_size=60))
def test_plain_text_stays_as_it_is(text: str) -> None:
    assert fold(text) == text


@given(
    st.text(max_size=8) | tricky, st.text(st.sampled_from("pornlia *.@|/\\<:>1🇵\u0301\u0316"), min_size=1, max_size=8)
)
@example("a", "\u0301\u0316")  # accents above and below, which Unicode wants sorted
@example("", "a a ")
@settings(max_examples=40, deadline=None)
def test_no_text_is_read_slower_than_in_linear_time(start: str, again: str) -> None:
    words = Floor(["aaaaaaaaaaaaaaaaaaaa", "a a a a a a a a a a"])

    def seconds(length: int) -> float:
        text = (start + again * length)[:length]
        taken = []
        for _ in range(2):
            began = time.thread_time()
            with suppress(PromptRefused):
                words.check(Reading.of(text))
            taken.append(time.thread_time() - began)
        return min(taken)

    # Sixteen times as long takes sixteen times as long; were it quadratic, 256 times.
    assert seconds(16_000) < 80 * max(seconds(1000), 1e-4)


class Wildcard(msgspec.Struct, frozen=True):
    name: str
    choices: tuple[str, ...]


class LaterOptions(JobOptions, frozen=True, kw_only=True, omit_defaults=True):
    """What a job may come to hold."""

    style: str | None = None
    wildcards: tuple[Wildcard, ...] = ()
    regions: dict[str, str] = msgspec.field(default_factory=dict)


def test_every_text_of_a_job_is_found_also_in_fields_to_come() -> None:
    options = LaterOptions(
        prompt="one",
        negative_prompt="two",
        style="three",
        wildcards=(Wildcard("four", ("five", "six")),),
        regions={"seven": "eight"},
        checkpoint="a name",
        sampler="a name",
    )
    assert sorted(texts(options)) == sorted(["one", "two", "three", "four", "five", "six", "seven", "eight"])


@pytest.mark.parametrize(
    ("folded", "forms"),
    [
        ("a red apple, 4k", ("a red apple. 4k",)),
        ("$ex, lol! what?!", ("5ex. lol. what.1", ".ex. lol. what..")),
        ("@porn", ("4porn", ".porn")),
        ("赤 p*rn", (". p*rn",)),
    ],
)
def test_signs_are_letters_or_none(folded: str, forms: tuple[str, ...]) -> None:
    assert plain(folded) == forms


def test_words_of_letters_alone_are_no_numbers() -> None:
    assert Words(["loli"]).found(Reading.of("1011 lolI l0l1")) == "loli"
    assert Words(["loli"]).found(Reading.of("in 1011, 1 0 1 1")) is None
