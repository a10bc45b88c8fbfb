"""A text as it reads: what people do to letters so that a filter does not know them is undone.

Forms of compatibility and case, accents, invisible characters, letters of other alphabets and letters among emoji
become plain letters. Digits and signs in place of letters stay: what they stand for is ambiguous, and patterns know it.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

# Letters of other alphabets that look like Latin ones, after Unicode's table of confusable characters (UTS 39);
# letters that only resemble one in some typefaces are left out. An upright stroke is an i or an l, as the digit 1 is.
_LOOKALIKES = {
    "a": "ɑΑαАаᎪᗅꓮλ",
    "b": "ƄΒБВвЬѢѣҌҍᏏᏴᑲᑳᖯᗷꓐꞴ𐌁",
    "c": "¢©ςСсҪҫᏟ₡Ⲥⲥꓚꮯ𐌂𐐕𐐽",
    "d": "Ððԁ∂ᎠᏧᑯᗞᗪ₫ꓒꓓ",
    "e": "ΕεΣЕеєЄҽҿᎬⴹꓰ",
    "f": "Ϝքᖴẝꓝ",
    "g": "ƍԌցᏀᏳꓖ",
    "h": "ΗНнћҢһӇӉհᎻᏂᏲᕼⲎꓧꚕ",
    "i": "ɩιіӏᎥᵼꙇꭵ",
    "j": "ͿϳЈјᎫᒍꓙ",
    "k": "ΚκКкҚҞᏦᛕ₭Ⲕꓗ",
    "l": "ƖƗᏞᒪᣳꓡ𐐛£",
    "m": "ΜϺМмӍᎷᗰᛖⲘꓟꭑ𐌑",
    "n": "ΝηոռⲚꓠ",
    "o": "ΘΟθοσОоѲѳӨөՕօჿᎾᏫⲞⲟⴱⵁⵔꓳꭴꮎꮻ𐐄𐐬𐓂𐓪⭕",
    "p": "ΡρРрþÞᏢᑭᣖⲢⲣꓑ",
    "q": "ԛգզⵕ",
    "r": "®ƦᎡᏒᖇᣴᴦⲅꓣꭇꮁ𐒴",
    "s": "ƽ§ЅѕՏᏕᏚᣵꓢꮪ𐐠𐑈",
    "t": "ΤτТтҬᎢ₮Ⲧꓔ𐌕†",
    "u": "ɄʋυμՍսᏌᑌꓴꞟꮜ𐓎𐓶",
    "v": "νѴѵᏙᐯⴸꓦꮩ",
    "w": "ɯѡѽԜԝաωᎳᏔ₩ꓪꝡꮃ",
    "x": "ΧχХхҲᕁᕽ᙮ᚷⲬⵝꓫꞳ𐌗𐌢×❌✖",
    "y": "¥ɣΥγУуҮүҰұყᎩᎽᶌⲨꓬ",
    "z": "ΖᏃᙆꓜꮓ𐋵",
    "1": "ǀΙІӀᛁⲒⳐⵏꓲ𐌉𐌠¡∣",
    "ae": "æÆ",
    "oe": "œŒ",
    "ab": "🆎",
    "cl": "🆑",
    " ": "⠀",  # the empty Braille cell
    "": "ᅟᅠㅤﾠ",  # fillers of Hangul are letters without a form
}
_READ_AS = {char: read for read, chars in _LOOKALIKES.items() for char in chars}

# Letters with strokes and hooks, turned ones, small capitals, and those of emoji say in their names which they are.
_NAMED = re.compile(
    r"(?:LATIN [A-Z ]*LETTER (?:[A-Z]+ )*|REGIONAL INDICATOR SYMBOL LETTER "
    r"|(?:CROSSED )?(?:NEGATIVE )?(?:SQUARED|CIRCLED) LATIN CAPITAL LETTER )([A-Z])(?: WITH .*)?"
)
_INVISIBLE = ("Cf", "Mn", "Me", "Cc", "Cs")

_EMOJI = re.compile(r"<a?:(\w{1,32}):\d{1,20}>")
_FLAG = re.compile("(?<![🇦-🇿])[🇦-🇿]{2}(?![🇦-🇿])")
_BACKWARDS = re.compile("\u202e([^\u202a-\u202e]*)")
_DRAWN = (
    ("|\\/|", "m"), ("/\\/\\", "m"), ("|\\|", "n"), ("/\\/", "n"), ("/-\\", "a"), ("/\\", "a"), ("\\/", "v"),
    ("()", "o"), ("|-|", "h"), ("|_|", "u"), ("|)", "d"), ("|<", "k"), ("|{", "k"), ("|2", "r"), ("|=", "f"),
    ("|*", "p"), ("|>", "p"),
)  # fmt: skip
_SIGNS = re.compile(r"[@$€|!+]+")
_AS_DIGITS = str.maketrans("@$€|!+", "453117")
_SPACES = re.compile(r"\s")
_NOT_PLAIN = re.compile(r"[^a-z0-9* ]")


def fold(text: str) -> str:
    """The text as it reads, in small letters; folding it again changes nothing. Custom emoji count by their names."""
    text = _FLAG.sub(" ", _BACKWARDS.sub(lambda match: match[1][::-1], text))
    text = _letters(_letters(text).casefold())
    for drawn, letter in _DRAWN:
        text = text.replace(drawn, letter)
    return _EMOJI.sub(r" \1 ", _SPACES.sub(" ", text))


def plain(folded: str) -> tuple[str, ...]:
    """A folded text in which all but Latin letters, digits, stars and spaces is a dot.

    Where it has signs that may stand for letters, it comes twice: with the digit that stands for the same letter
    (`@` is `4`), and with a dot as for any other sign.
    """
    forms = (_SIGNS.sub(_as_digits, folded), folded)
    return tuple(dict.fromkeys(_NOT_PLAIN.sub(".", form) for form in forms))


def spelled(folded: str) -> str:
    """A folded text in which all but letters and digits of any script and spaces is a dot."""
    return "".join(char if char.isalnum() or char == " " else "." for char in folded)


def _letters(text: str) -> str:
    # Marks go first: putting a long heap of them in order takes the square of its height.
    bare = "".join(map(_visible, text))
    spread = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", bare))
    return "".join(map(_letter, spread))


@lru_cache(maxsize=4096)
def _visible(char: str) -> str:
    return "" if unicodedata.category(char) in _INVISIBLE and not char.isspace() else char


@lru_cache(maxsize=4096)
def _letter(char: str) -> str:
    if char.isascii():
        return char
    if (read := _READ_AS.get(char)) is not None:
        return read
    if not _visible(char):
        return ""
    if named := _NAMED.fullmatch(unicodedata.name(char, "")):
        return named[1].lower()
    if (digit := unicodedata.decimal(char, None)) is not None:
        return str(digit)
    return char


def _as_digits(signs: re.Match[str]) -> str:
    """Signs are letters in disguise, but not where they end a word, as in "lol!"."""
    before = signs.string[signs.start() - 1 : signs.start()].isalnum()
    after = signs.string[signs.end() : signs.end() + 1].isalnum()
    return signs[0] if before and not after else signs[0].translate(_AS_DIGITS)
