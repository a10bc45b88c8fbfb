"""One Discord message per job, created at the ack and from then on only edited.

An edit says the same however often it arrives, which a post does not; so whatever is in doubt is simply edited again.
Every edit shows the job as it is at that moment, and edits of one job never overlap, so the last one is right.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from enum import Enum, auto
from weakref import WeakValueDictionary

import aiohttp
import discord

from bot.errors import JobNotFound
from bot.jobs.crowd import Crowd
from bot.jobs.editing import Encoding, MessageEditor, MessageLost, MessageRefused, Rendered, RenderJob
from bot.jobs.model import Job, JobSnapshot, JobState
from bot.jobs.progress import ProgressBoard
from bot.jobs.queue import JobQueue
from bot.storage.images import ImageStore

__all__ = ["Delivery", "Encoding", "LiveMessage", "Outcome", "RenderJob", "Rendered"]

_log = logging.getLogger(__name__)

ACK_GRACE = timedelta(seconds=10)
"""How long after admission the ack may take before the job counts as never acknowledged."""
FEW_EDITS_AFTER = timedelta(minutes=59)
"""Discord takes few edits of messages older than an hour (30046), so they are kept for how the job ended."""
SLOWNESS = 3.0
"""Discord gets so many times the seconds an edit took before the next one of that message."""
TROUBLE_PAUSES = (5.0, 30.0)
"""Seconds before the next progress edit after one that failed, and at most after many."""
RETRY_DELAYS = (0.5, 1.0, 2.0, 4.0)
"""Seconds between the tries of a final edit."""


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
        crowd: Crowd,
        progress_interval: float = 2.0,
        retry_delays: Sequence[float] = RETRY_DELAYS,
    ) -> None:
        self._queue = queue
        self._board = board
        self._crowd = crowd
        self._editor = MessageEditor(client, queue, images, render)
        self._progress_interval = progress_interval
        self._retry_delays = tuple(retry_delays)
        self._turns: WeakValueDictionary[int, asyncio.Lock] = WeakValueDictionary()
        self._acks: WeakValueDictionary[int, asyncio.Event] = WeakValueDictionary()

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
        await self._crowd.answered()
        async with self._turns.setdefault(job_id, asyncio.Lock()):
            try:
                snapshot = await self._when_acknowledged(job_id)
            except JobNotFound:
                return Outcome.OVER
            if snapshot.job.shown_at is not None:
                return Outcome.OVER
            if _has_few_edits_left(snapshot.job):
                return Outcome.SHOWN
            return await self._show(snapshot, self._retry_delays if retry else ())

    async def _keep_current(self, job_id: int, live: LiveMessage) -> None:
        shortest, longest = TROUBLE_PAUSES
        trouble = shortest
        while await live.next_change():
            outcome, took = Outcome.LATER, 0.0
            try:
                await self._crowd.answered()
                await self._board.screen(job_id)
                began = time.monotonic()
                outcome = await self.show(job_id, retry=False)
                took = time.monotonic() - began
            except Exception:
                _log.exception("The progress of job %d could not be shown.", job_id)
            pause = max(self._progress_interval, SLOWNESS * took)
            match outcome:
                case Outcome.OVER:
                    live.lost = True
                    return
                case Outcome.LATER:
                    pause, trouble = max(pause, trouble), min(2 * trouble, longest)
                case Outcome.SHOWN:
                    trouble = shortest
            await live.pause(pause)

    async def _show(self, snapshot: JobSnapshot, delays: Sequence[float]) -> Outcome:
        job = snapshot.job
        try:
            await self._editor.edit(snapshot, delays)
        except MessageLost as lost:
            _log.info("The message of job %d is beyond reach: %s", job.id, lost)
            await self._queue.unshowable(job.id, lost.state, str(lost), give_up=True)
            return Outcome.OVER
        except MessageRefused as error:
            _log.error("The message of job %d was not edited.", job.id, exc_info=error)
            if job.state is JobState.RENDERED:
                # The failure itself can still be shown.
                await self._queue.unshowable(job.id, JobState.FAILED, str(error), give_up=False)
                return Outcome.LATER
            if job.state.settled:
                if not all(image.showing.seen for image in snapshot.images):
                    await self._editor.delete(job)  # rather nothing than what was taken down
                await self._queue.unshowable(job.id, job.state, str(error), give_up=True)
                return Outcome.OVER
            return Outcome.SHOWN
        except (discord.HTTPException, aiohttp.ClientError, OSError) as error:
            _log.warning("The message of job %d could not be edited now: %r", job.id, error)
            return Outcome.LATER
        if _has_ended(job):
            await self._queue.shown(job)
        return Outcome.SHOWN

    async def _when_acknowledged(self, job_id: int) -> JobSnapshot:
        """The snapshot, once the ack has created the message or its time is over."""
        ack = self._acks.setdefault(job_id, asyncio.Event())
        snapshot = await self._board.snapshot(job_id)
        remaining = ACK_GRACE - snapshot.job.age
        if snapshot.job.message_id is not None or remaining <= timedelta(0):
            return snapshot
        with suppress(TimeoutError):
            async with asyncio.timeout(min(remaining, ACK_GRACE).total_seconds()):
                await ack.wait()
        return await self._board.snapshot(job_id)


def _has_ended(job: Job) -> bool:
    return job.state is JobState.RENDERED or job.state.settled


def _has_few_edits_left(job: Job) -> bool:
    return job.age > FEW_EDITS_AFTER and job.message_id is not None and not _has_ended(job)
