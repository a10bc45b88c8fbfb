"""Reads when something is to end, as people write it: `2 h`, `for 90 min`, `22:00`, `until 8:30`."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from bot.errors import NotATime

LONGEST = timedelta(days=60)
EXAMPLES = ("1 h", "2 h", "8 h", "1 day", "1 week", "22:00")

_SPAN = re.compile(r"(?:for )?(\d{1,5}(?:[.,]\d+)?) ?(m|min|h|d|w|minute|hour|day|week)s?")
_CLOCK = re.compile(r"(?:until )?(\d{1,2})[:.](\d{2})")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse(text: str, now: datetime) -> datetime:
    """The moment that is meant, later than `now`, in whose time zone a time of day is read. Raises NotATime."""
    words = " ".join(text.lower().split())
    if span := _SPAN.fullmatch(words):
        moment = now + min(timedelta(**{_UNITS[span[2][0]]: float(span[1].replace(",", "."))}), 2 * LONGEST)
    elif (clock := _CLOCK.fullmatch(words)) and int(clock[1]) < 24 and int(clock[2]) < 60:
        moment = now.replace(hour=int(clock[1]), minute=int(clock[2]), second=0, microsecond=0)
        if moment <= now:
            moment += timedelta(days=1)
    else:
        raise NotATime("Say how long as `2 h`, `90 min` or `3 days`, or until when as `22:00`.")
    if not timedelta(minutes=1) <= moment - now <= LONGEST:
        raise NotATime(f"That has to last from a minute up to {LONGEST.days} days.")
    return moment
