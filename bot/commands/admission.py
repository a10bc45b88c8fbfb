"""From a wish to a queued job and the one message that will show it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar

import aiohttp
import discord

from bot.commands import errors
from bot.commands.catalogue import Catalogue
from bot.commands.terms import Terms
from bot.errors import BotLacksPermission
from bot.jobs.crowd import Crowd
from bot.jobs.model import Job, JobKind, JobSnapshot, NewJob
from bot.jobs.promises import Promises
from bot.jobs.service import JobService
from bot.moderation.judging import Judging
from bot.moderation.restrictions import Restrictions
from bot.moderation.rules import PromptRules, Ruling
from bot.moderation.servers import Servers
from bot.prompt.options import JobOptions
from bot.views import job as job_view
from bot.views import text

log = logging.getLogger(__name__)

Response = TypeVar("Response")

COMMIT_PATIENCE = 1.5
"""Seconds the commit may take before the interaction is deferred; Discord gives up after 3."""

PLACE_PATIENCE = 0.1
"""Seconds that finding out a job's place in line may take; the message is edited to show it when its turn is near."""

ALREADY_ACKNOWLEDGED = 40060


class Admission:
    """Checks a wish, commits it, and answers with the message that is edited from then on until it shows the result."""

    def __init__(
        self,
        jobs: JobService,
        catalogue: Catalogue,
        *,
        crowd: Crowd,
        promises: Promises,
        judging: Judging,
        rules: PromptRules,
        restrictions: Restrictions,
        servers: Servers,
    ) -> None:
        self._jobs = jobs
        self._catalogue = catalogue
        self._crowd = crowd
        self._promises = promises
        self._judging = judging
        self._rules = rules
        self._restrictions = restrictions
        self._servers = servers
        self._terms = Terms(servers)

    async def admit(
        self,
        interaction: discord.Interaction,
        kind: JobKind,
        options: JobOptions,
        *,
        parent: Job | None = None,
        parent_index: int | None = None,
    ) -> None:
        """Queue a job for the person behind `interaction` and acknowledge it.

        Nothing is sent before the job is on the disk, so whatever a person saw acknowledged is kept. Raises a
        UserFacingError or an InvalidRequest, with nothing queued, when the job cannot be taken.
        """
        with self._crowd.one_more():
            await self._admit(interaction, kind, options, parent, parent_index)

    async def redeem(self, bot: discord.Client) -> None:
        """Take in what was promised when the bot was killed; once, before anything new is asked for."""
        for new in await asyncio.to_thread(self._promises.all):
            try:
                await self._jobs.submit(new)
            except Exception as error:
                await errors.take_back(bot, new.interaction_id, new.interaction_token, error)
            self._promises.forget(new)

    async def _admit(
        self,
        interaction: discord.Interaction,
        kind: JobKind,
        options: JobOptions,
        parent: Job | None,
        parent_index: int | None,
    ) -> None:
        require_permissions(interaction)
        options.validate()
        await self._restrictions.require_none(interaction.guild_id, interaction.user.id)
        await self._terms.require(interaction)
        await self._judging.require_judge(interaction.guild_id, interaction.channel_id or 0)
        ruling = await self._rules.judge(interaction.guild_id, options)
        checkpoint = parent.checkpoint if parent else options.checkpoint
        checkpoint = checkpoint or await self._catalogue.current(interaction.guild_id)
        self._catalogue.require_sound(checkpoint)
        await self._catalogue.require_allowed(checkpoint, interaction.guild_id)
        new = NewJob(
            interaction_id=interaction.id,
            interaction_token=interaction.token,
            kind=kind,
            options=options,
            checkpoint=checkpoint,
            user_id=interaction.user.id,
            channel_id=interaction.channel_id or 0,
            guild_id=interaction.guild_id,
            parent_id=parent.id if parent else None,
            parent_index=parent_index,
            file_limit=interaction.filesize_limit,
            role_ids=role_ids(interaction),
            held=ruling.held,
        )
        if await self._acknowledge(interaction, new) and ruling.note is not None:
            await self._add_note(interaction, ruling)

    async def _acknowledge(self, interaction: discord.Interaction, new: NewJob) -> bool:
        """Whether the job's message came to be now."""
        commit = asyncio.create_task(self._jobs.submit(new))
        await asyncio.wait({commit}, timeout=COMMIT_PATIENCE)
        job = commit.result() if commit.done() else await self._deferred(interaction, new, commit)
        if job is None or job.message_id is not None:
            return False  # refused, or Discord sent the interaction twice; its message is there already
        # As it was admitted: a fast engine may have begun, and what it shows needs files that only an edit brings.
        snapshot = replace(await self._at_once(job), job=job)
        view = job_view.render(snapshot).view
        try:
            message_id = await _send(interaction, view)
        except discord.NotFound:
            log.warning("Job %d is cancelled: Discord no longer accepted its acknowledgement.", job.id)
            await self._jobs.cancel(job.id)
            return False
        if await self._jobs.attach_message(job.id, message_id):
            return True
        await interaction.delete_original_response()  # the job was erased meanwhile, when it had no message
        return False

    async def _deferred(self, interaction: discord.Interaction, new: NewJob, commit: asyncio.Task[Job]) -> Job | None:
        """The job, once its commit has come back; None when it was refused, which the person has been told by then."""
        async with self._promises.kept(new):
            try:
                await _answered(lambda: interaction.response.defer(thinking=True))
                return await commit
            except Exception as error:
                await errors.report(interaction, error)
                return None

    async def _add_note(self, interaction: discord.Interaction, ruling: Ruling) -> None:
        """Tell the author alone what a rule says; the job is taken, whatever becomes of this."""
        note = text.quoted(ruling.note or "", 500)
        if ruling.held and (await self._servers.of(interaction.guild_id or 0)).review_channel_id is None:
            note += " This server has no review channel; its moderators find it by `/review list`."
        try:
            await interaction.followup.send(note, ephemeral=True)
        except (discord.HTTPException, aiohttp.ClientError, OSError) as error:
            log.warning("Interaction %d got no note about a rule: %s", interaction.id, error)

    async def _at_once(self, job: Job) -> JobSnapshot:
        """With the job's place, unless finding it out would hold up the answer."""
        if self._crowd.here:
            return JobSnapshot(job)
        try:
            async with asyncio.timeout(PLACE_PATIENCE):
                return await self._jobs.snapshot(job.id)
        except TimeoutError:
            return JobSnapshot(job)


def role_ids(interaction: discord.Interaction) -> tuple[int, ...]:
    """Roles that the person wears here, @everyone among them, whose id is the server's."""
    member = interaction.user
    return tuple(role.id for role in member.roles) if isinstance(member, discord.Member) else ()


def require_permissions(interaction: discord.Interaction) -> None:
    """Raises BotLacksPermission, naming what is missing, when the bot could not post pictures here."""
    if interaction.guild_id is None:
        return
    needed = discord.Permissions(view_channel=True, attach_files=True)
    if isinstance(interaction.channel, discord.Thread):
        needed.send_messages_in_threads = True
    else:
        needed.send_messages = True
    missing = [name for name, wanted in needed if wanted and not getattr(interaction.app_permissions, name)]
    if missing:
        names = ", ".join(name.replace("_", " ").title() for name in missing)
        raise BotLacksPermission(
            f"I cannot post pictures in this channel. A moderator can mend it by giving me: {names}."
        )


async def _send(interaction: discord.Interaction, view: discord.ui.LayoutView) -> int:
    """Answer the interaction with `view`; returns the message's id."""
    if interaction.response.is_done():
        return (await interaction.edit_original_response(view=view)).id
    response = await _answered(lambda: interaction.response.send_message(view=view))
    if response is None:
        return (await interaction.original_response()).id
    assert response.message_id is not None, "an answer with a message always has its id"
    return response.message_id


async def _answered(answer: Callable[[], Awaitable[Response]]) -> Response | None:
    """A connection lost on the way is tried once more; None when an earlier try had arrived after all."""
    try:
        with suppress(OSError, aiohttp.ClientError):
            return await answer()
        return await answer()
    except discord.HTTPException as error:
        if error.code != ALREADY_ACKNOWLEDGED:
            raise
        return None
