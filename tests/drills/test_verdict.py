"""The judge sees what it is there to see: each kind of harm, done on purpose, breaks its gate and no other."""

from __future__ import annotations

import io
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from benchmarks.drills.crowd import Asked, Wish
from benchmarks.drills.verdict import judge


def png(shade: int, *, compress_level: int = 6) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 8), (shade, shade, shade)).save(out, "PNG", compress_level=compress_level)
    return out.getvalue()


class Evening:
    """Three jobs that went well, until a test spoils one of them."""

    def __init__(self) -> None:
        self.references = {number: [png(40 * number)] for number in range(3)}
        self.asked = [
            Asked(Wish(number, "thing", number, 1, 4), number, 0.0, acknowledged=0.1, ended="posted", ends=1)
            for number in range(3)
        ]
        for asked in self.asked:
            asked.messages.append(message(png(40 * asked.wish.number)))
        self.table = {
            number: SimpleNamespace(interaction_id=number, id=number, state="done", attempt=1, shown_at="now")
            for number in range(3)
        }

    @property
    def acknowledged(self) -> list[Asked]:
        return [asked for asked in self.asked if asked.acknowledged is not None]

    async def rows(self) -> list[Any]:
        return list(self.table.values())


def message(*pictures: bytes) -> Any:
    return SimpleNamespace(attachments=[SimpleNamespace(data=data) for data in pictures])


def no_row(evening: Evening) -> None:
    del evening.table[1]


def deleted_without_a_word(evening: Evening) -> None:
    evening.asked[1].deleted = True


def never_ends(evening: Evening) -> None:
    evening.asked[1].ended = None


def row_never_ends(evening: Evening) -> None:
    evening.table[1].shown_at = None


def second_message(evening: Evening) -> None:
    evening.asked[1].messages.append(message(png(40)))


def message_though_refused(evening: Evening) -> None:
    evening.asked[1].acknowledged, evening.asked[1].refused = None, "Too late."


def other_picture(evening: Evening) -> None:
    evening.asked[1].messages[0] = message(png(200))


def no_picture(evening: Evening) -> None:
    evening.asked[1].messages[0] = message(b"nothing that can be seen")


def one_picture_too_many(evening: Evening) -> None:
    evening.asked[1].messages[0] = message(png(40), png(41))


def back_again(evening: Evening) -> None:
    evening.asked[1].reverted = 1


@pytest.mark.parametrize(
    ("harm", "gate"),
    [
        (no_row, "lost"),
        (deleted_without_a_word, "lost"),
        (never_ends, "unfinished"),
        (row_never_ends, "unfinished"),
        (second_message, "duplicates"),
        (message_though_refused, "duplicates"),
        (other_picture, "wrong"),
        (no_picture, "wrong"),
        (one_picture_too_many, "wrong"),
        (back_again, "reverted"),
    ],
)
async def test_harm_breaks_its_gate(harm: Callable[[Evening], None], gate: str) -> None:
    evening: Any = Evening()
    assert all(found.ok for found in (await judge(evening, evening)).gates())

    harm(evening)

    broken = [found.name for found in (await judge(evening, evening)).gates() if not found.ok]
    assert broken == [f"{gate}, at most"]


async def test_a_rounding_of_the_last_bit_is_no_other_picture() -> None:
    evening: Any = Evening()
    evening.asked[1].messages[0] = message(png(41))
    verdict = await judge(evening, evening)
    assert (verdict.wrong, verdict.bit_equal) == (0, round(2 / 3, 4))


async def test_one_picture_in_two_messages_is_a_duplicate_though_the_files_differ() -> None:
    evening: Any = Evening()
    evening.asked[1].messages[0] = message(png(80, compress_level=0))
    assert (await judge(evening, evening)).duplicates == 1
