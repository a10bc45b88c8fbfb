"""From a score to how a picture is shown, outside age-restricted channels."""

from __future__ import annotations

from dataclasses import dataclass

from bot.jobs.model import Showing
from bot.moderation.servers import ServerSettings


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Scores from which a picture is shown behind a spoiler, waits for a moderator, or is not shown at all."""

    spoiler_at: float = 0.5
    hold_at: float = 0.8
    block_at: float = 0.99

    def showing(self, score: float) -> Showing:
        if score >= self.block_at:
            return Showing.REMOVED
        if score >= self.hold_at:
            return Showing.HELD
        return Showing.SPOILER if score >= self.spoiler_at else Showing.PLAIN


STANDARD = Thresholds()


def thresholds(settings: ServerSettings) -> Thresholds:
    """What a server set, and the defaults for what it did not."""
    return Thresholds(
        spoiler_at=STANDARD.spoiler_at if settings.spoiler_at is None else settings.spoiler_at,
        hold_at=STANDARD.hold_at if settings.hold_at is None else settings.hold_at,
        block_at=STANDARD.block_at if settings.block_at is None else settings.block_at,
    )
