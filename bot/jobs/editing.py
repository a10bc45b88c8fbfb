"""One edit of a job's message: by which route, in which encoding, and what Discord's answer means for the job."""

from __future__ import annotations

import asyncio
import io
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Literal, Protocol

import aiohttp
import discord
from discord.http import Route, handle_message_parameters

from bot.jobs.model import Job, JobSnapshot, JobState
from bot.jobs.queue import JobQueue
from bot.storage.images import ImageLost, ImageStore

_log = logging.getLogger(__name__)

TOKEN_LIFE = timedelta(minutes=14)
"""Discord honours an interaction token for 15 minutes; leave it a minute before."""
EDIT_TIMEOUT = 60.0
"""Seconds one edit may take, discord.py's own retries included."""

Encoding = Literal["png", "webp", "jpeg", "small"]
ENCODINGS: tuple[Encoding, ...] = ("png", "webp", "jpeg", "small")
"""From best to smallest, the last one a JPEG with fewer pixels; the next one is tried when the files are too large."""

_GONE = {10003, 10004, 10008}  # unknown channel, guild, message
_TOO_LARGE = 40005
_TOKEN_EXPIRED = 50027
_EDITED_TOO_OFTEN = 30046
"""A message older than an hour takes few edits; Discord takes the next one later."""
_TOKEN_IN_ADDRESS = re.compile(r"(/(?:webhooks|interactions)/\d+/)[^/\s]+")


@dataclass(frozen=True, slots=True)
class Rendered:
    """A message as it is to look; `view` refers to `files` as attachment://name."""

    view: discord.ui.LayoutView
    files: list[discord.File]


class RenderJob(Protocol):
    """How a job looks, in any state but RENDERED (it is DONE by the time it is seen).

    `images` are the finished pictures that people may see, as PNG by `StoredImage.index`. The files made of them are
    to be encoded as `encoding` says, with that file extension. It is called again for every try, because a file is
    read once, and in a thread of its own.
    """

    def __call__(self, snapshot: JobSnapshot, images: Mapping[int, bytes], encoding: Encoding) -> Rendered: ...


class MessageLost(Exception):
    """The job's message is beyond reach: there is nothing to try again."""

    def __init__(self, state: JobState, sentence: str) -> None:
        super().__init__(sentence)
        self.state = state
        """How a job that has not ended yet ends because of it."""


class MessageRefused(Exception):
    """Discord does not take what the message would show; another content may still go."""


class MessageEditor:
    """Edits through the client's HTTP session: by the interaction's token while it lives, then as the bot."""

    def __init__(self, client: discord.Client, queue: JobQueue, images: ImageStore, render: RenderJob) -> None:
        self._client = client
        self._queue = queue
        self._images = images
        self._render = render
        for name in ("discord.http", "discord.webhook.async"):
            logging.getLogger(name).addFilter(_hide_tokens)

    async def edit(self, snapshot: JobSnapshot, delays: Sequence[float]) -> None:
        """Edit by the best route left and in the best encoding that Discord takes.

        Raises MessageLost, MessageRefused or, when the last try failed for a passing reason, its error.
        """
        job = snapshot.job
        images = await self._read_images(snapshot)
        routes, encodings, waits = self._routes(job), list(ENCODINGS), iter(delays)
        while True:
            try:
                limit = self._file_limit(job, routes[0])
                message = await self._send(routes[0], await self._fitting(snapshot, images, encodings, limit))
                break
            except discord.HTTPException as error:
                if _is_token(routes[0]) and (error.status in (401, 404) or error.code == _TOKEN_EXPIRED):
                    routes.pop(0)
                    await self._queue.forget_token(job.id)
                    if not routes:
                        raise MessageLost(JobState.CANCELLED, "Discord never showed that this was asked for.") from None
                elif error.status == 413 or error.code == _TOO_LARGE:
                    encodings.pop(0)
                    if not encodings:
                        raise MessageRefused("The pictures are too large for this server.") from None
                elif error.status == 429 or error.status >= 500 or error.code == _EDITED_TOO_OFTEN:
                    await _wait_or_raise(waits, error)
                else:
                    raise _verdict(error) from error
            except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
                await _wait_or_raise(waits, error)
        if job.message_id is None:
            await self._queue.attach_message(job.id, int(message["id"]))

    async def delete(self, job: Job) -> None:
        """Take the message away, as the bot. Raises nothing but what may pass."""
        if job.message_id is None:
            return
        try:
            await self._client.http.delete_message(job.channel_id, job.message_id)
        except (discord.NotFound, discord.Forbidden) as error:
            _log.warning("The message of job %d could not be deleted: %s", job.id, error)

    async def _fitting(
        self, snapshot: JobSnapshot, images: Mapping[int, bytes], encodings: list[Encoding], limit: int
    ) -> Rendered:
        """In the best of `encodings` whose files Discord should take; better ones are dropped from the list."""
        while True:
            # In a thread, because encoding pictures takes as long as a hundred answers.
            rendered = await asyncio.to_thread(self._rendered, snapshot, images, encodings[0])
            if len(encodings) == 1 or all(_size(file) <= limit for file in rendered.files):
                return rendered
            encodings.pop(0)

    def _rendered(self, snapshot: JobSnapshot, images: Mapping[int, bytes], encoding: Encoding) -> Rendered:
        if snapshot.job.state is JobState.RENDERED:  # as things stand once the edit has arrived
            snapshot = replace(snapshot, job=replace(snapshot.job, state=JobState.DONE))
        try:
            return self._render(snapshot, images, encoding)
        except Exception as error:
            raise MessageRefused("The result could not be put into a message; the bot's log says why.") from error

    async def _send(self, route: Route, rendered: Rendered) -> dict[str, str]:
        parameters = handle_message_parameters(
            view=rendered.view,
            attachments=rendered.files,
            allowed_mentions=discord.AllowedMentions.none(),
        )
        with parameters:
            async with asyncio.timeout(EDIT_TIMEOUT):
                if parameters.files:
                    form = parameters.multipart
                    message: dict[str, str] = await self._client.http.request(route, files=parameters.files, form=form)
                else:
                    message = await self._client.http.request(route, json=parameters.payload)
        return message

    def _file_limit(self, job: Job, route: Route) -> int:
        """Bytes that Discord takes for a file there; it has the last word, as boosts come and go."""
        if _is_token(route) and job.file_limit is not None:
            return job.file_limit
        guild = self._client.get_guild(job.guild_id) if job.guild_id is not None else None
        return guild.filesize_limit if guild is not None else discord.utils.DEFAULT_FILE_SIZE_LIMIT_BYTES

    def _routes(self, job: Job) -> list[Route]:
        """Ways to edit the message, best first: by the interaction's token while it lives, then as the bot."""
        routes = []
        if job.interaction_token and job.age < TOKEN_LIFE:
            routes.append(
                Route(
                    "PATCH",
                    "/webhooks/{webhook_id}/{webhook_token}/messages/@original",
                    webhook_id=self._client.application_id,
                    webhook_token=job.interaction_token,
                )
            )
        if job.message_id is not None:
            routes.append(
                Route(
                    "PATCH",
                    "/channels/{channel_id}/messages/{message_id}",
                    channel_id=job.channel_id,
                    message_id=job.message_id,
                )
            )
        if not routes:
            raise MessageLost(JobState.CANCELLED, "Discord never showed that this was asked for.")
        return routes

    async def _read_images(self, snapshot: JobSnapshot) -> dict[int, bytes]:
        """Those that people may see. Once a message showed them, one that is lost keeps no other from being hidden."""
        if snapshot.job.state not in (JobState.RENDERED, JobState.DONE):
            return {}
        found = {}
        for image in snapshot.images:
            if not image.showing.seen:
                continue
            try:
                found[image.index] = await asyncio.to_thread(self._images.read, image.sha256)
            except ImageLost as error:
                if snapshot.job.state is JobState.RENDERED:
                    raise MessageRefused("The finished pictures are gone from the bot's disk.") from error
        return found


def _size(file: discord.File) -> int:
    size = file.fp.seek(0, io.SEEK_END)
    file.fp.seek(0)
    return size


def _verdict(error: discord.HTTPException) -> MessageLost | MessageRefused:
    """What a refusal means that no other try would change."""
    if error.status == 404 or error.code in _GONE:
        return MessageLost(JobState.CANCELLED, "Its message was deleted.")
    if error.status in (401, 403):
        return MessageLost(JobState.FAILED, "The bot may no longer write in that channel.")
    return MessageRefused("Discord refused the message that shows this.")


def _is_token(route: Route) -> bool:
    return route.webhook_token is not None


async def _wait_or_raise(waits: Iterator[float], error: Exception) -> None:
    pause = next(waits, None)
    if pause is None or getattr(error, "code", None) == _EDITED_TOO_OFTEN:
        raise error
    await asyncio.sleep(pause)


def _hide_tokens(record: logging.LogRecord) -> bool:
    """discord.py logs addresses, and those of interactions hold a secret."""
    record.msg = _TOKEN_IN_ADDRESS.sub(r"\1<hidden>", record.getMessage())
    record.args = None
    return True
