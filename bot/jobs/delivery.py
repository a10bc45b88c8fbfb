"""One Discord message per job, created at the ack and from then on only edited.

An edit says the same however often it arrives, which a post does not; so whatever is in doubt is simply edited again.
Every edit shows the job as it is at that moment, and edits of one job never overlap, so the last one is right.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from typing import Literal, Protocol
from weakref import WeakValueDictionary

import aiohttp
import discord
from discord.http import Route, handle_message_parameters

from bot.errors import JobNotFound
from bot.jobs.model import Job, JobSnapshot, JobState
from bot.jobs.progress import ProgressBoard
from bot.jobs.queue import JobQueue
from bot.storage.images import ImageLost, ImageStore

_log = logging.getLogger(__name__)

TOKEN_LIFE = timedelta(minutes=14)
"""Discord honours an interaction token for 15 minutes; leave it a minute before."""
ACK_GRACE = timedelta(seconds=10)
"""How long after admission the ack may take before the job counts as never acknowledged."""
EDIT_TIMEOUT = 60.0
"""Seconds one edit may take, discord.py's own retries included."""
RETRY_DELAYS = (0.5, 1.0, 2.0, 4.0)
"""Seconds between the tries of a final edit."""

Encoding = Literal["png", "webp", "jpeg"]
ENCODINGS: tuple[Encoding, ...] = ("png", "webp", "jpeg")
"""From best to smallest; the next one is tried when Discord finds the files too large."""

_GONE = {10003, 10004, 10008}  # unknown channel, guild, message
_TOO_LARGE = 40005
_TOKEN_EXPIRED = 50027
_TOKEN_IN_ADDRESS = re.compile(r"(/(?:webhooks|interactions)/\d+/)[^/\s]+")


@dataclass(frozen=True, slots=True)
class Rendered:
    """A message as it is to look; `view` refers to `files` as attachment://name."""

    view: discord.ui.LayoutView
    files: list[discord.File]


class RenderJob(Protocol):
    """How a job looks, in any state but RENDERED (it is DONE by the time it is seen).

    `images` are the finished pictures as PNG by `StoredImage.index`. The files made of them are to be encoded as
    `encoding` says, with that file extension. It is called again for every try, because a file is read once.
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


class Outcome(Enum):
    """What became of an attempt to show a job."""

    SHOWN = auto()
    LATER = auto()
    """Discord could not be reached or is in trouble: worth trying again."""
    OVER = auto()
    """The job ended and nothing is left to show, or to be shown on."""


class LiveMessage:
    """The message of a job that is being drawn."""

    def __init__(self) -> None:
        self.lost = False
        """The message is beyond reach and the job has ended: drawing on is of no use."""
        self._changed = asyncio.Event()
        self._closing = asyncio.Event()

    def changed(self) -> None:
        """There is something new to show; shown at the next opportunity, the latest state only."""
        self._changed.set()

    def close(self) -> None:
        self._closing.set()
        self._changed.set()

    async def next_change(self) -> bool:
        """False when the message is followed no more."""
        await self._changed.wait()
        self._changed.clear()
        return not self._closing.is_set()

    async def pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closing.wait()


class Delivery:
    """Edits messages through the client's HTTP session, and records what came of it in the queue."""

    def __init__(
        self,
        client: discord.Client,
        queue: JobQueue,
        board: ProgressBoard,
        images: ImageStore,
        render: RenderJob,
        *,
        progress_interval: float = 2.0,
        retry_delays: Sequence[float] = RETRY_DELAYS,
    ) -> None:
        self._client = client
        self._queue = queue
        self._board = board
        self._images = images
        self._render = render
        self._progress_interval = progress_interval
        self._retry_delays = tuple(retry_delays)
        self._turns: WeakValueDictionary[int, asyncio.Lock] = WeakValueDictionary()
        self._acks: WeakValueDictionary[int, asyncio.Event] = WeakValueDictionary()
        for name in ("discord.http", "discord.webhook.async"):
            logging.getLogger(name).addFilter(_hide_tokens)

    def acknowledged(self, job_id: int) -> None:
        """The job's message exists from now on."""
        if ack := self._acks.get(job_id):
            ack.set()

    @asynccontextmanager
    async def follow(self, job_id: int) -> AsyncIterator[LiveMessage]:
        """Keep the message up to date inside the block: one edit in flight, at most one per progress interval.

        On leaving, an edit in flight is waited for, so that it cannot arrive after a later one.
        """
        live = LiveMessage()
        editing = asyncio.create_task(self._keep_current(job_id, live), name=f"progress of job {job_id}")
        try:
            yield live
        finally:
            live.close()
            await asyncio.wait([editing])

    async def show(self, job_id: int, *, retry: bool = True) -> Outcome:
        """Edit the message to what is true now; with `retry`, bounded tries through dropped connections and 5xx."""
        async with self._turns.setdefault(job_id, asyncio.Lock()):
            try:
                snapshot = await self._when_acknowledged(job_id)
            except JobNotFound:
                return Outcome.OVER
            if snapshot.job.shown_at is not None:
                return Outcome.OVER
            return await self._show(snapshot, self._retry_delays if retry else ())

    async def _keep_current(self, job_id: int, live: LiveMessage) -> None:
        while await live.next_change():
            try:
                outcome = await self.show(job_id, retry=False)
            except Exception:
                _log.exception("The progress of job %d could not be shown.", job_id)
            else:
                if outcome is Outcome.OVER:
                    live.lost = True
                    return
            await live.pause(self._progress_interval)

    async def _show(self, snapshot: JobSnapshot, delays: Sequence[float]) -> Outcome:
        job = snapshot.job
        try:
            await self._edit(snapshot, delays)
        except MessageLost as lost:
            _log.info("The message of job %d is beyond reach: %s", job.id, lost)
            await self._queue.unshowable(job.id, lost.state, str(lost), give_up=True)
            return Outcome.OVER
        except (MessageRefused, ImageLost) as error:
            _log.error("The message of job %d was not edited.", job.id, exc_info=error)
            if job.state is JobState.RENDERED:
                # The failure itself can still be shown.
                await self._queue.unshowable(job.id, JobState.FAILED, str(error), give_up=False)
                return Outcome.LATER
            if job.state.settled:
                await self._queue.unshowable(job.id, job.state, str(error), give_up=True)
                return Outcome.OVER
            return Outcome.SHOWN
        except (discord.HTTPException, aiohttp.ClientError, OSError) as error:
            _log.warning("The message of job %d could not be edited now: %r", job.id, error)
            return Outcome.LATER
        if job.state is JobState.RENDERED or job.state.settled:
            await self._queue.shown(job)
        return Outcome.SHOWN

    async def _edit(self, snapshot: JobSnapshot, delays: Sequence[float]) -> None:
        """Edit by the best route left and in the best encoding that Discord takes.

        Raises MessageLost, MessageRefused or, when the last try failed for a passing reason, its error.
        """
        job = snapshot.job
        images = await self._read_images(snapshot)
        routes, encodings, waits = self._routes(job), list(ENCODINGS), iter(delays)
        while True:
            try:
                message = await self._send(routes[0], self._rendered(snapshot, images, encodings[0]))
                break
            except discord.HTTPException as error:
                if _is_token(routes[0]) and (error.status in (401, 404) or error.code == _TOKEN_EXPIRED):
                    routes.pop(0)
                    await self._queue.forget_token(job.id)
                    if not routes:
                        raise MessageLost(JobState.CANCELLED, "Discord never showed that this was asked for.") from None
                elif error.status == 404 or error.code in _GONE:
                    raise MessageLost(JobState.CANCELLED, "Its message was deleted.") from None
                elif error.status in (401, 403):
                    raise MessageLost(JobState.FAILED, "The bot may no longer write in that channel.") from None
                elif error.status == 413 or error.code == _TOO_LARGE:
                    encodings.pop(0)
                    if not encodings:
                        raise MessageRefused("The pictures are too large for this server.") from None
                elif error.status == 429 or error.status >= 500:
                    await _wait_or_raise(waits, error)
                else:
                    raise MessageRefused("Discord refused the message that shows this.") from error
            except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
                await _wait_or_raise(waits, error)
        if job.message_id is None:
            await self._queue.attach_message(job.id, int(message["id"]))

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

    def _routes(self, job: Job) -> list[Route]:
        """Ways to edit the message, best first: by the interaction's token while it lives, then as the bot."""
        routes = []
        if job.interaction_token and _age(job) < TOKEN_LIFE:
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

    async def _when_acknowledged(self, job_id: int) -> JobSnapshot:
        """The snapshot, once the ack has created the message or its time is over."""
        ack = self._acks.setdefault(job_id, asyncio.Event())
        snapshot = await self._board.snapshot(job_id)
        remaining = ACK_GRACE - _age(snapshot.job)
        if snapshot.job.message_id is not None or remaining <= timedelta(0):
            return snapshot
        with suppress(TimeoutError):
            async with asyncio.timeout(min(remaining, ACK_GRACE).total_seconds()):
                await ack.wait()
        return await self._board.snapshot(job_id)

    async def _read_images(self, snapshot: JobSnapshot) -> dict[int, bytes]:
        if snapshot.job.state is not JobState.RENDERED:
            return {}
        return {i.index: await asyncio.to_thread(self._images.read, i.sha256) for i in snapshot.images}


def _age(job: Job) -> timedelta:
    return datetime.now(UTC) - job.created_at


def _is_token(route: Route) -> bool:
    return route.webhook_token is not None


async def _wait_or_raise(waits: Iterator[float], error: Exception) -> None:
    pause = next(waits, None)
    if pause is None:
        raise error
    await asyncio.sleep(pause)


def _hide_tokens(record: logging.LogRecord) -> bool:
    """discord.py logs addresses, and those of interactions hold a secret."""
    record.msg = _TOKEN_IN_ADDRESS.sub(r"\1<hidden>", record.getMessage())
    record.args = None
    return True
