"""What the buttons under a job's message do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import discord
from discord.ext import commands
from msgspec.structs import replace

from bot.commands.admission import Admission
from bot.commands.catalogue import Catalogue
from bot.commands.errors import report
from bot.commands.moderating import Moderating
from bot.errors import NotAllowed, PictureHidden, PicturesGone, PressedTwice
from bot.jobs.closures import EVERYWHERE
from bot.jobs.model import Job, JobKind, JobState, Showing, StoredImage
from bot.jobs.service import JobService
from bot.moderation.audit import Deed
from bot.prompt.options import GRID_IMAGES
from bot.views import info as info_view
from bot.views.buttons import JobButton, Press, Verb

if TYPE_CHECKING:
    from bot.client import ImagineBot

VARIATION_STRENGTH = 0.8
"""Share of the schedule that a variation draws anew; at 0.6 the four could hardly be told apart."""

DOUBLE_CLICK = 3.0
"""Seconds in which a second press of a button is taken for an impatient first one."""


class Buttons(commands.Cog):
    """Every press loads its job anew, so nothing depends on what this process remembers."""

    def __init__(self, jobs: JobService, admission: Admission, catalogue: Catalogue, moderating: Moderating) -> None:
        self._jobs = jobs
        self._moderating = moderating
        self._admission = admission
        self._catalogue = catalogue
        self._recent = RecentPresses()

    @commands.Cog.listener()
    async def on_job_button(self, interaction: discord.Interaction, press: Press) -> None:
        try:
            await self._answer(interaction, press, await self._jobs.get(press.job_id))
        except Exception as error:
            await report(interaction, error)

    async def _answer(self, interaction: discord.Interaction, press: Press, job: Job) -> None:
        match press.verb:
            case Verb.UPSCALE | Verb.VARY | Verb.REROLL:
                with self._recent.only_first(interaction.message, press):
                    await self._draw(interaction, press, job)
            case Verb.CANCEL:
                await self._cancel(interaction, job)
            case Verb.DELETE:
                await self._delete(interaction, job)
            case Verb.INFO:
                info = await self._catalogue.find(job.checkpoint)
                snapshot = await self._jobs.snapshot(job.id)
                _require_seen(snapshot.images)
                view = info_view.render(snapshot, info)
                await interaction.response.send_message(view=view, ephemeral=True)

    async def _draw(self, interaction: discord.Interaction, press: Press, job: Job) -> None:
        match press.verb:
            case Verb.UPSCALE:
                await self._upscale(interaction, job, press.index - 1)
            case Verb.VARY:
                await self._vary(interaction, job, press.index - 1)
            case _:
                await self._reroll(interaction, job)

    async def _upscale(self, interaction: discord.Interaction, job: Job, index: int) -> None:
        seed = await self._seed(job, index)
        options = replace(job.options, images=1, seed=seed, size=None, strength=0.0)
        await self._admission.admit(interaction, JobKind.UPSCALE, options, parent=job, parent_index=index)

    async def _vary(self, interaction: discord.Interaction, job: Job, index: int) -> None:
        await self._seed(job, index)
        options = replace(job.options, images=GRID_IMAGES, seed=None, strength=VARIATION_STRENGTH)
        await self._admission.admit(interaction, JobKind.VARIATION, options, parent=job, parent_index=index)

    async def _reroll(self, interaction: discord.Interaction, job: Job) -> None:
        """Draw anew: with fresh seeds after a success, exactly as asked after a failure."""
        # Not `is DONE`: a quick finger presses before the row says that its message is up to date.
        failed = job.state in (JobState.FAILED, JobState.CANCELLED)
        options = job.options if failed else replace(job.options, seed=None)
        if job.parent_id is not None and job.parent_index is not None:
            source = await self._jobs.get(job.parent_id)
            await self._seed(source, job.parent_index)
            await self._admission.admit(interaction, job.kind, options, parent=source, parent_index=job.parent_index)
        else:
            _require_seen(await self._jobs.images(job.id))
            await self._admission.admit(interaction, JobKind.REROLL, options, parent=job)

    async def _cancel(self, interaction: discord.Interaction, job: Job) -> None:
        deed = await self._require_author_or_moderator(interaction, job, "cancel")
        await interaction.response.defer()
        if not await self._jobs.cancel(job.id, deed):
            await interaction.followup.send("There is nothing left to cancel: this job has just ended.", ephemeral=True)

    async def _delete(self, interaction: discord.Interaction, job: Job) -> None:
        deed = await self._require_author_or_moderator(interaction, job, "delete")
        await interaction.response.defer()
        await self._jobs.delete_images(job.id, deed)
        await interaction.delete_original_response()

    async def _require_author_or_moderator(self, interaction: discord.Interaction, job: Job, verb: str) -> Deed | None:
        """What goes into the audit log, when it is a moderator. Raises NotAllowed."""
        if interaction.user.id == job.user_id:
            return None
        if job.guild_id != interaction.guild_id or not await self._moderating.may(interaction):
            raise NotAllowed(f"Only <@{job.user_id}> and moderators (Manage Messages) can {verb} this.")
        return Deed(job.guild_id or EVERYWHERE, interaction.user.id, f"job.{verb}", f"job {job.id}")

    async def _seed(self, job: Job, index: int) -> int:
        """Raises PicturesGone, or PictureHidden where it is not shown."""
        for image in await self._jobs.images(job.id):
            if image.index == index:
                _require_seen([image])
                return image.seed
        raise PicturesGone("That picture was deleted, so nothing can be made of it any more.")


def _require_seen(images: Sequence[StoredImage]) -> None:
    """Raises PictureHidden when there are pictures, and all of them are kept from being seen."""
    if not images or any(image.showing.seen for image in images):
        return
    if any(image.showing is Showing.HELD for image in images):
        raise PictureHidden("A moderator has to look at this first.")
    raise PictureHidden("This was removed, so nothing is made of it any more.")


class RecentPresses:
    """Lets one press of a button through and turns away its echo.

    Two clicks are two interactions to Discord, so the idempotency of the queue cannot tell a double click.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until: dict[tuple[int, Press], float] = {}

    @contextmanager
    def only_first(self, message: discord.Message | None, press: Press) -> Iterator[None]:
        """Raises PressedTwice for an echo. When the body fails, the next press counts as a first one again."""
        now, key = self._clock(), (message.id if message else 0, press)
        self._until = {seen: until for seen, until in self._until.items() if until > now}
        if key in self._until:
            raise PressedTwice(f"{press.label} was pressed just now: its pictures are on their way.")
        self._until[key] = now + DOUBLE_CLICK
        try:
            yield
        except Exception:
            self._until.pop(key, None)
            raise


async def setup(bot: ImagineBot) -> None:
    bot.add_dynamic_items(JobButton)
    await bot.add_cog(Buttons(bot.services.jobs, bot.services.admission, bot.services.catalogue, Moderating(bot)))
