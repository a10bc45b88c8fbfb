"""What becomes of pictures before anybody sees them; `bot.moderation.judging` decides it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from bot.jobs.model import Job, Showing


@dataclass(frozen=True, slots=True)
class Verdict:
    showing: Showing = Showing.PLAIN
    score: float | None = None
    phash: str | None = None
    note: str | None = None
    """What the message says instead of the picture."""
    case: str | None = None
    """Why a moderator is to look at it."""


class Judge(Protocol):
    async def judge(self, job: Job, pictures: Sequence[bytes]) -> Sequence[Verdict]:
        """One verdict for each finished PNG. Raises NotJudged where they may not be shown without one."""
        ...

    async def screen(self, job: Job, preview: bytes) -> bytes:
        """A preview sheet, as it is or blurred."""
        ...
