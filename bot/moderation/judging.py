"""Judges pictures before anybody sees them: by the classifier, and by what the server's moderators removed before."""

from __future__ import annotations

import asyncio
import io
import math
from collections.abc import Callable, Sequence
from typing import Protocol

from PIL import Image, ImageFilter
from sqlalchemy import select

from bot.errors import NotJudged
from bot.jobs.judgement import Verdict
from bot.jobs.model import Job, Showing
from bot.moderation import hashes, policy
from bot.moderation.policy import Thresholds
from bot.moderation.servers import Servers, ServerSettings
from bot.storage import tables
from bot.storage.session import Database

BLURRED = 8
"""Cells to a side of what is left of a blurred picture."""

_removed = tables.removed_hashes

AgeRestricted = Callable[[int | None, int], bool]
"""Whether the channel of that server is one, as far as is known."""


class Scores(Protocol):
    """What `bot.moderation.classifier.ClassifierProcess` is."""

    @property
    def works(self) -> bool: ...

    @property
    def idle(self) -> bool: ...

    def start(self) -> None: ...

    async def score(self, pictures: Sequence[bytes]) -> Sequence[float]: ...


class Judging:
    """In an age-restricted channel only what moderators removed is kept back; elsewhere nothing is shown unjudged."""

    def __init__(
        self,
        database: Database,
        servers: Servers,
        classifier: Scores | None,
        *,
        age_restricted: AgeRestricted,
        accepts_unjudged: bool = False,
    ) -> None:
        self._database = database
        self._servers = servers
        self._classifier = classifier
        self._age_restricted = age_restricted
        self._accepts_unjudged = accepts_unjudged

    async def require_judge(self, guild_id: int | None, channel_id: int) -> None:
        """Raises NotJudged when what is drawn for that channel could not be shown there."""
        if self._classifier is not None and self._classifier.works:
            return
        if self._age_restricted(guild_id, channel_id) or self._may_go_unjudged(await self._settings(guild_id)):
            return
        if self._classifier is None:
            raise NotJudged(
                "This bot has no picture classifier, so it draws in age-restricted channels only. "
                "A manager can accept the risk with /moderation accept-unjudged."
            )
        self._classifier.start()
        raise NotJudged(
            "The bot's picture classifier does not run right now, so it draws in age-restricted channels only. "
            "Try again in a minute."
        )

    async def judge(self, job: Job, pictures: Sequence[bytes]) -> list[Verdict]:
        """One verdict for each finished PNG. Raises NotJudged where they may not be shown without one."""
        removed = await self._removed_in(job.guild_id)
        looks = [await asyncio.to_thread(_look, picture, removed) for picture in pictures]
        settings = await self._settings(job.guild_id)
        scores = await self._scores(job, settings, pictures)
        limits = policy.thresholds(settings)
        return [
            _verdict(job, phash, score, limits, known=known)
            for (phash, known), score in zip(looks, scores, strict=True)
        ]

    async def screen(self, job: Job, preview: bytes) -> bytes:
        """The sheet as it is where it was judged harmless while nobody else waited for a judgement, blurred otherwise.

        Nothing is judged before somebody is about to see it, so this takes the time of what is shown alone.
        """
        answers = self._classifier is None or (self._classifier.works and self._classifier.idle)
        at_once = answers or self._age_restricted(job.guild_id, job.channel_id)
        if at_once and await self.harmless(job.guild_id, job.channel_id, preview, job.options.images):
            return preview
        return await asyncio.to_thread(_blurred, preview, job.options.images)

    async def harmless(self, guild_id: int | None, channel_id: int, sheet: bytes, count: int) -> bool:
        """Whether a sheet of so many pictures may be shown there as it is."""
        if self._age_restricted(guild_id, channel_id):
            return True
        settings = await self._settings(guild_id)
        if self._classifier is None:
            return self._may_go_unjudged(settings)
        try:
            scores = await self._classifier.score(await asyncio.to_thread(_parts, sheet, count))
        except NotJudged:
            return self._may_go_unjudged(settings)
        return max(scores) < policy.thresholds(settings).spoiler_at

    async def _scores(self, job: Job, settings: ServerSettings, pictures: Sequence[bytes]) -> Sequence[float | None]:
        unjudged = [None] * len(pictures)
        if self._age_restricted(job.guild_id, job.channel_id):
            return unjudged
        try:
            if self._classifier is None:
                raise NotJudged("The pictures may not be shown here, because nothing judged them.")
            return await self._classifier.score(pictures)
        except NotJudged:
            if self._may_go_unjudged(settings):
                return unjudged
            raise

    def _may_go_unjudged(self, settings: ServerSettings) -> bool:
        return self._accepts_unjudged or settings.unjudged_accepted is not None

    async def _settings(self, guild_id: int | None) -> ServerSettings:
        return ServerSettings() if guild_id is None else await self._servers.of(guild_id)

    async def _removed_in(self, guild_id: int | None) -> Sequence[str]:
        if guild_id is None:
            return ()
        async with self._database.read() as connection:
            found = await connection.scalars(select(_removed.c.phash).where(_removed.c.guild_id == guild_id))
            return found.all()


def _verdict(job: Job, phash: str, score: float | None, limits: Thresholds, *, known: bool) -> Verdict:
    showing = Showing.PLAIN if score is None else limits.showing(score)
    if showing is Showing.HELD and job.guild_id is None:
        showing = Showing.REMOVED  # there is nobody to decide in direct messages
    if showing is Showing.REMOVED:
        note = "It is too explicit for a channel that is not age-restricted."
        return Verdict(showing, score, phash, note=note)
    if known:
        note, case = "A moderator removed a picture like it.", "It looks like a picture that was removed."
        return Verdict(Showing.REMOVED, score, phash, note=note, case=case)
    held = f"The picture classifier finds it explicit ({score:.2f} of 1)." if showing is Showing.HELD else None
    return Verdict(showing, score, phash, case=held)


def _look(picture: bytes, removed: Sequence[str]) -> tuple[str, bool]:
    """Its perceptual hash, and whether it looks like one that was removed."""
    try:
        phash = hashes.phash(picture)
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise NotJudged("The pictures could not be judged, so they are not shown.") from error
    return phash, hashes.near(phash, removed)


def _parts(sheet: bytes, count: int) -> list[bytes]:
    """The pictures of a preview sheet, which is as square as it gets."""
    image = Image.open(io.BytesIO(sheet))
    columns, rows = _grid(count)
    width, height = image.width // columns, image.height // rows
    parts = []
    for index in range(count):
        left, top = index % columns * width, index // columns * height
        part = io.BytesIO()
        image.crop((left, top, left + width, top + height)).save(part, "PNG", compress_level=1)
        parts.append(part.getvalue())
    return parts


def _blurred(sheet: bytes, count: int) -> bytes:
    """Colours and where they are, and nothing else; as WebP."""
    image = Image.open(io.BytesIO(sheet)).convert("RGBA")
    columns, rows = _grid(count)
    small = image.resize((BLURRED * columns, BLURRED * rows), Image.Resampling.BOX)
    smooth = small.filter(ImageFilter.GaussianBlur(1)).resize(image.size, Image.Resampling.BICUBIC)
    out = io.BytesIO()
    smooth.save(out, "WEBP", quality=80)
    return out.getvalue()


def _grid(count: int) -> tuple[int, int]:
    columns = math.ceil(math.sqrt(count))
    return columns, math.ceil(count / columns)
