"""A job as every part of the bot sees it: plain frozen values, read from the database and never written through."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from bot.prompt.options import JobOptions


class JobState(StrEnum):
    HELD = "held"
    """A moderator has to say first whether it may be drawn."""
    QUEUED = "queued"
    RUNNING = "running"
    RENDERED = "rendered"
    """Every picture is on disk; the message does not show them yet."""
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def settled(self) -> bool:
        return self in (JobState.DONE, JobState.FAILED, JobState.CANCELLED)


class Closure(StrEnum):
    """What a moderator did to a server's queue."""

    PAUSED = "paused"
    """Jobs are taken, but none is begun."""
    DRAINING = "draining"
    """Jobs that wait are drawn, but none is taken."""


class JobKind(StrEnum):
    IMAGINE = "imagine"
    VARIATION = "variation"
    REROLL = "reroll"
    UPSCALE = "upscale"


class Showing(StrEnum):
    """How the job's message shows a finished picture."""

    PLAIN = "plain"
    SPOILER = "spoiler"
    HELD = "held"
    """Not at all, until a moderator says so."""
    REMOVED = "removed"
    """Not any more, or never."""

    @property
    def seen(self) -> bool:
        return self in (Showing.PLAIN, Showing.SPOILER)


@dataclass(frozen=True, slots=True)
class NewJob:
    """What admission needs; `interaction_id` makes it idempotent."""

    interaction_id: int
    interaction_token: str = field(repr=False)
    """A secret: whoever holds it can edit the message."""
    kind: JobKind
    options: JobOptions
    checkpoint: str
    user_id: int
    channel_id: int
    guild_id: int | None
    parent_id: int | None = None
    parent_index: int | None = None
    """`StoredImage.index` of the parent's picture that a variation or an upscale starts from."""
    file_limit: int | None = None
    """Bytes of a file that Discord takes in answer to the interaction."""
    role_ids: tuple[int, ...] = ()
    """Roles that the user wears in the server; weights and quotas may depend on them."""
    held: str | None = None
    """Why a moderator has to say first whether it may be drawn, in one sentence for moderators."""


@dataclass(frozen=True, slots=True)
class Job:
    id: int
    kind: JobKind
    state: JobState
    attempt: int
    """Raised by every claim; a result written under an older attempt changes nothing."""
    crashes: int
    """Engine crashes this job was in flight for."""
    options: JobOptions
    checkpoint: str
    seed: int
    """The user's, or one picked at admission, so that drawing again after a crash gives the same pictures."""
    user_id: int
    channel_id: int
    guild_id: int | None
    message_id: int | None
    interaction_token: str = field(repr=False)
    """Empty once it is of no more use."""
    file_limit: int | None
    """Bytes of a file that Discord takes by that token."""
    parent_id: int | None
    parent_index: int | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    error: str | None
    """One sentence for the user when the job failed."""
    seconds: float | None
    """Time the engine took, when done."""
    shown_at: datetime | None
    """When the message came to show how the job ended; nothing edits it until that is shown anew."""
    revision: int = 0
    """Raised whenever something else is to be shown, so that an edit that was on its way does not count as it."""

    @property
    def age(self) -> timedelta:
        return datetime.now(UTC) - self.created_at


@dataclass(frozen=True, slots=True)
class StoredImage:
    """A finished picture; `sha256` and `latents_sha256` name files of the image store."""

    job_id: int
    index: int
    seed: int
    width: int
    height: int
    sha256: str
    latents_sha256: str
    showing: Showing = Showing.PLAIN
    note: str | None = None
    """One sentence that the message shows instead of it, where it is held or removed."""
    score: float | None = None
    """How explicit the classifier finds it, 0 to 1; None where nobody judged it."""
    phash: str | None = None
    """Perceptual hash, 64 bits in hex."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is. Lives in memory only."""

    step: int
    steps: int
    preview: bytes | None = None
    """WebP sheet of the denoised images so far."""

    @property
    def fraction(self) -> float:
        return self.step / self.steps if self.steps else 0.0


@dataclass(frozen=True, slots=True)
class JobSnapshot:
    """Everything a message about a job shows, at one moment."""

    job: Job
    position: int | None = None
    """Jobs ahead of it while queued: 0 means next."""
    paused: bool = False
    """A moderator paused its queue."""
    done_at: datetime | None = None
    """When it will probably be done, while it waits and its like were drawn before."""
    progress: Progress | None = None
    images: tuple[StoredImage, ...] = ()
    appeal: int | None = None
    """The case that decided against it, where its author may still appeal."""
