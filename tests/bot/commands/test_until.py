"""How people write when a checkpoint's time is over."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.commands.until import EXAMPLES, LONGEST, parse
from bot.errors import NotATime

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2 h", NOON + timedelta(hours=2)),
        ("for 90min", NOON + timedelta(minutes=90)),
        ("1.5 Hours", NOON + timedelta(hours=1.5)),
        ("3 days", NOON + timedelta(days=3)),
        ("22:00", NOON.replace(hour=22)),
        ("until 8:30", datetime(2026, 3, 2, 8, 30, tzinfo=UTC)),
        ("12.00", NOON + timedelta(days=1)),
    ],
)
def test_spans_and_times_of_day_are_read(text: str, moment: datetime) -> None:
    assert parse(text, NOON) == moment


@pytest.mark.parametrize(
    "text", ["", "soon", "-2 h", "0 h", "25:00", "12:60", "9 weeks", "99999 weeks", "nan h", "1e9 h"]
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(NotATime):
        parse(text, NOON)


def test_what_is_offered_can_be_read() -> None:
    assert all(parse(example, NOON) > NOON for example in EXAMPLES)


@given(text=st.text() | st.from_regex(r"(for |until )?\d{1,6}[:., ]?\d{0,3} ?[mhdw]?", fullmatch=True))
def test_whatever_is_typed_lies_ahead_or_is_refused(text: str) -> None:
    try:
        moment = parse(text, NOON)
    except NotATime:
        return
    assert timedelta() < moment - NOON <= LONGEST
