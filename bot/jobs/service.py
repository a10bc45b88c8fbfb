"""What commands and buttons may do with jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from bot.errors import ShuttingDown
from bot.jobs.checkpoints import Checkpoints
from bot.jobs.closures import Closures
from bot.jobs.delivery import Delivery
from bot.jobs.dispatcher import PLACES, Dispatcher
from bot.jobs.estimates import Work
from bot.jobs.model import Closure, Job, JobSnapshot, NewJob, StoredImage
from bot.jobs.progress import ProgressBoard
from bot.jobs.queue import JobQueue
from bot.jobs.quota import Policy, Terms
from bot.jobs.work import cost, side, steps
from bot.moderation.audit import Deed
from bot.storage.images import ImageStore

EVERYBODY_ALIKE = Policy()


class JobService:
    def __init__(
        self,
        *,
        queue: JobQueue,
        checkpoints: Checkpoints,
        images: ImageStore,
        board: ProgressBoard,
        delivery: Delivery,
        dispatcher: Dispatcher,
        closures: Closures,
        policy: Policy = EVERYBODY_ALIKE,
    ) -> None:
        self._queue = queue
        self._closures = closures
        self._policy = policy
        self._checkpoints = checkpoints
        self._images = images
        self._board = board
        self._delivery = delivery
        self._dispatcher = dispatcher

    async def submit(self, new: NewJob) -> Job:
        """Admit a job in one commit: when this returns it is kept, whatever crashes. The same interaction again gives
        the same job. Raises QueueFull, QueueClosed, QuotaUsedUp or ShuttingDown.

        Its message is edited only after `attach_message`, so that no edit overtakes the ack.
        """
        if self._dispatcher.stopping:
            raise ShuttingDown("The bot is restarting; try again in a minute. Jobs already queued keep their place.")
        checkpoint = await self._checkpoints.get(new.checkpoint)
        work = Work(
            checkpoint=new.checkpoint,
            size=side(new.kind, new.options, checkpoint),
            steps=steps(new.options, checkpoint),
            cost=cost(new.kind, new.options, checkpoint),
        )
        terms = Terms(
            weight=self._policy.weight(new.role_ids, draft=new.options.draft),
            estimate=await self._queue.estimates.seconds(work) or 0.0,
            user_limit=self._policy.limit(new.role_ids),
            guild_limit=self._policy.guild_limit,
        )
        job = await self._queue.submit(new, cost=work.cost, size=work.size, steps=work.steps, terms=terms)
        self._dispatcher.wake()
        return job

    async def attach_message(self, job_id: int, message_id: int) -> bool:
        """The message created at the ack is the job's one message from now on. False when the job was erased."""
        attached = await self._queue.attach_message(job_id, message_id)
        self._delivery.acknowledged(job_id)
        return attached

    async def get(self, job_id: int) -> Job:
        """Raises JobNotFound."""
        return await self._queue.get(job_id)

    async def images(self, job_id: int) -> tuple[StoredImage, ...]:
        """By index; empty before the job is rendered and after its pictures were deleted."""
        return await self._queue.images(job_id)

    async def snapshot(self, job_id: int) -> JobSnapshot:
        """Raises JobNotFound."""
        return await self._board.snapshot(job_id)

    async def cancel(self, job_id: int, deed: Deed | None = None) -> bool:
        """Cancel a job that waits or is drawn, free the engine and, in the background, edit its message.

        A moderator's `deed` is written down with it. False when it was too late. Raises JobNotFound.
        """
        if not await self._queue.cancel(job_id, deed):
            return False
        self._dispatcher.interrupt(job_id)
        self._dispatcher.deliver(job_id)
        return True

    def reconsider(self, job_id: int) -> None:
        """Something was decided about the job: begin to draw it, or edit its message, without waiting for a look."""
        self._dispatcher.wake()
        self._dispatcher.deliver(job_id)

    def abandon(self, job_ids: Iterable[int]) -> None:
        """Their rows are gone: free the engine of those that it draws."""
        for job_id in job_ids:
            self._dispatcher.interrupt(job_id)

    async def line(
        self, *, user_id: int | None = None, guild_id: int | None = None, limit: int
    ) -> tuple[tuple[JobSnapshot, ...], int]:
        """The first `limit` jobs of a user or of a server that are drawn or wait, and how many there are."""
        return await self._queue.line(user_id=user_id, guild_id=guild_id, limit=limit)

    async def clear(self, guild_id: int, deed: Deed | None = None) -> int:
        """Cancel every waiting job of a server, or of all with EVERYWHERE; returns how many.

        Their messages are edited one after the other by the dispatcher, which looks for such every few seconds.
        """
        return await self._queue.clear(guild_id, deed)

    async def close(self, guild_id: int, closure: Closure, deed: Deed | None = None) -> None:
        """Pause or drain a server's queue, or all with EVERYWHERE, until `open`."""
        await self._closures.close(guild_id, closure, deed)
        await self._tell_places(guild_id)

    async def open(self, guild_id: int, deed: Deed | None = None) -> None:
        await self._closures.open(guild_id, deed)
        self._dispatcher.wake()
        await self._tell_places(guild_id)

    async def closures(self, guild_id: int | None) -> dict[int, Closure]:
        """What holds for a server's queue, by whom it was closed for: its own id, or EVERYWHERE."""
        return await self._closures.of(guild_id)

    async def _tell_places(self, guild_id: int) -> None:
        jobs, _ = await self._queue.line(guild_id=guild_id, limit=PLACES)
        for snapshot in jobs:
            self._dispatcher.deliver(snapshot.job.id)

    async def delete_images(self, job_id: int, deed: Deed | None = None) -> None:
        """Delete the job's pictures, and the files of those that no other job shows."""
        async with self._images.changing:
            for sha256 in await self._queue.delete_images(job_id, deed):
                await asyncio.to_thread(self._images.delete, sha256)
