"""Two clicks of one button: the echo is turned away, and only the echo."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from bot.commands.buttons import DOUBLE_CLICK, RecentPresses
from bot.errors import PressedTwice
from bot.views.buttons import Press, Verb

MESSAGE: Any = SimpleNamespace(id=1)
OTHER: Any = SimpleNamespace(id=2)
V2 = Press(Verb.VARY, 42, 2)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def recent(clock: Clock) -> RecentPresses:
    return RecentPresses(clock)


def test_an_echo_is_turned_away_politely(recent: RecentPresses) -> None:
    with recent.only_first(MESSAGE, V2):
        pass
    sentence = r"V2 was pressed just now: its pictures are on their way\."
    with pytest.raises(PressedTwice, match=sentence), recent.only_first(MESSAGE, V2):
        pytest.fail("an echo came through")


def test_an_echo_is_recognised_while_the_first_press_is_still_answered(recent: RecentPresses) -> None:
    with recent.only_first(MESSAGE, V2), pytest.raises(PressedTwice), recent.only_first(MESSAGE, V2):
        pytest.fail("an echo came through")


def test_another_button_and_another_message_are_no_echo(recent: RecentPresses) -> None:
    with (
        recent.only_first(MESSAGE, V2),
        recent.only_first(OTHER, V2),
        recent.only_first(MESSAGE, Press(Verb.VARY, 42, 3)),
        recent.only_first(MESSAGE, Press(Verb.UPSCALE, 42, 2)),
    ):
        pass


def test_a_moment_later_it_is_meant(recent: RecentPresses, clock: Clock) -> None:
    with recent.only_first(MESSAGE, V2):
        pass
    clock.now += DOUBLE_CLICK
    with recent.only_first(MESSAGE, V2):
        pass


def test_a_press_that_failed_may_be_repeated_at_once(recent: RecentPresses) -> None:
    with pytest.raises(ValueError, match="queue full"), recent.only_first(MESSAGE, V2):
        raise ValueError("queue full")
    with recent.only_first(MESSAGE, V2):
        pass
