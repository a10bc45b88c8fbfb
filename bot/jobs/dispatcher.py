"""Moves jobs from the queue through the engine to their messages, and gives them back when it cannot."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain, repeat
from typing import Any, cast

import msgspec
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnection

from bot.errors import PicturesGone, PicturesNotSaved, UserFacingError
from bot.jobs.checkpoints import Checkpoints
from bot.jobs.crowd import Crowd
from bot.jobs.delivery import Delivery, LiveMessage, Outcome
from bot.jobs.judgement import Judge, Verdict
from bot.jobs.model import Job, JobKind, JobSnapshot, Progress, StoredImage
from bot.jobs.progress import ProgressBoard
from bot.jobs.queue import MAX_CRASHES, JobQueue
from bot.jobs.sweeping import sweep
from bot.jobs.work import side
from bot.storage.images import ImageLost, ImageStore
from t2i import api
from t2i.engine.client import Engine

_log = logging.getLogger(__name__)

POLL = 5.0
"""Seconds after which the engine's free slots are looked at without being woken."""
PLACES = 10
"""Waiting jobs whose messages say how many are ahead as the queue moves."""
PLACES_PAUSE = 5.0
"""Seconds between two looks at their places."""
CORRECTION = 20.0
"""Seconds by which the expected end moves before it is shown anew though the place is the same."""
LAST_WORD = 3.0
"""Seconds that tasks have to end once they are cancelled."""
REDELIVERY_PAUSES = (5.0, 300.0)
"""Seconds between two looks for messages that do not show yet how their job ended: usually, and at most."""
WRITE_PAUSES = (0.5, 1.0, 2.0, 5.0)
"""Seconds between two tries to write how an attempt ended, while the database refuses; the last one stays."""

_DATABASE_TROUBLE = (OperationalError, InterfaceError, NoConnection, OSError)
"""A full disk, a lock, a server that is away: all of it passes."""

Write = Callable[[], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Drawing:
    images: list[api.ImageReady]
    seconds: float


class Dispatcher:
    """The only one that claims jobs. Claims no more than the engine has room for, so that the queue stays fair."""

    def __init__(
        self,
        *,
        engine: Engine,
        queue: JobQueue,
        checkpoints: Checkpoints,
        images: ImageStore,
        board: ProgressBoard,
        delivery: Delivery,
        judge: Judge,
        crowd: Crowd,
        preview_every: int = 2,
    ) -> None:
        self._engine = engine
        self._queue = queue
        self._checkpoints = checkpoints
        self._images = images
        self._board = board
        self._delivery = delivery
        self._judge = judge
        self._crowd = crowd
        self._preview_every = preview_every
        self._woken = asyncio.Event()
        self._loops: list[asyncio.Task[None]] = []
        self._attempts: dict[asyncio.Task[None], Job] = {}
        self._approaching: set[tuple[int, int]] = set()
        """Attempts that do not take up one of the engine's slots yet."""
        self._deliveries: set[asyncio.Task[Outcome]] = set()
        self._behind = False
        """Discord did not take a result, and none has been taken since."""
        self._answering = asyncio.Event()
        """Discord takes results again."""
        self.stopping = False
        """No more jobs are admitted."""

    async def start(self) -> None:
        """Give back what the last run of the bot left behind, then begin to claim."""
        if left := await self._queue.recover():
            _log.info("%d jobs that were being drawn wait again in their old place.", left)
        self._loops = [
            asyncio.create_task(self._claim_forever(), name="claim jobs"),
            asyncio.create_task(self._redeliver_forever(), name="deliver again"),
            asyncio.create_task(self._tell_places_forever(), name="tell places in the queue"),
            asyncio.create_task(sweep(self._queue, self._images), name="sweep the picture folder"),
        ]

    async def stop(self, grace: float = 20.0) -> None:
        """Claim nothing more, give what is being drawn and delivered `grace` seconds, requeue the rest uncharged."""
        self.stopping = True
        deadline = time.monotonic() + grace
        await _end(self._loops)
        for running in (self._attempts, self._deliveries):
            if running:
                await asyncio.wait(list(running), timeout=max(0.0, deadline - time.monotonic()))
        await _end([*self._attempts, *self._deliveries])
        try:
            await self._queue.recover()
        except _DATABASE_TROUBLE as error:
            _log.error("Jobs that were being drawn are given back at the next start: %s", error)

    def wake(self) -> None:
        """There may be something to claim, or room for it."""
        self._woken.set()

    def interrupt(self, job_id: int) -> None:
        """Stop drawing a job whose row says already that it ended."""
        for task, job in self._attempts.items():
            if job.id == job_id:
                task.cancel()

    def deliver(self, job_id: int) -> None:
        """Bring the job's message up to date, in the background."""
        task = asyncio.create_task(self._delivery.show(job_id), name=f"deliver job {job_id}")
        self._deliveries.add(task)
        task.add_done_callback(self._deliveries.discard)
        task.add_done_callback(self._learn)
        task.add_done_callback(_log_failure)

    def _learn(self, delivery: asyncio.Task[Outcome]) -> None:
        """From what became of one delivery, whether another is worth trying before its time."""
        if delivery.cancelled() or delivery.exception():
            return
        if delivery.result() is Outcome.LATER:
            self._behind = True
        elif delivery.result() is Outcome.SHOWN and self._behind:
            self._behind = False
            self._answering.set()

    async def _claim_forever(self) -> None:
        offered: tuple[api.CheckpointInfo, ...] = ()
        doubtful = False
        while True:
            try:
                await self._engine.wait_ready()
            except api.EngineError as error:
                _log.error("No more jobs are drawn: %s", error)
                return
            self._woken.clear()
            try:
                if doubtful:
                    await self._queue.recover(spare={job.id for job in self._attempts.values()})
                    doubtful = False
                if offered != self._engine.checkpoints():
                    offered = self._engine.checkpoints()
                    await self._checkpoints.record(offered)
                await self._claim_all()
            except Exception:
                _log.exception("Jobs could not be claimed; trying again in %g s.", POLL)
                doubtful = True  # a commit may have arrived though its answer did not, and nobody draws that job
            with suppress(TimeoutError):
                # Not wait_for, which may swallow a cancellation in Python 3.11.
                async with asyncio.timeout(POLL):
                    await self._woken.wait()

    async def _claim_all(self) -> None:
        while self._engine.slots() > len(self._approaching):
            await self._crowd.answered()
            job = await self._queue.claim(loaded=self._engine.loaded())
            if job is None:
                return
            if job.crashes < MAX_CRASHES - 1:
                self._launch(job)
                continue
            # Its last chance, alone: should it crash the engine again, it harms nobody and nobody else is to blame.
            if self._attempts:
                await asyncio.wait(list(self._attempts))
            await asyncio.wait([self._launch(job)])

    def _launch(self, job: Job) -> asyncio.Task[None]:
        task = asyncio.create_task(self._attempt(job), name=f"draw job {job.id}")
        self._attempts[task] = job
        self._approaching.add((job.id, job.attempt))

        def ended(task: asyncio.Task[None]) -> None:
            del self._attempts[task]
            self._approaching.discard((job.id, job.attempt))
            self.wake()

        task.add_done_callback(ended)
        task.add_done_callback(_log_failure)
        return task

    async def _attempt(self, job: Job) -> None:
        """One attempt, from a claimed row to a row that says how it went."""
        try:
            if failure := await self._try(job):
                await self._write(job, failure)
        finally:
            self._board.clear(job.id)
        self.deliver(job.id)

    async def _try(self, job: Job) -> Write | None:
        """Draw and keep it; what to write when nothing came of it."""
        try:
            request = await self._request(job)
            async with self._delivery.follow(job.id) as message:
                drawing = await self._draw(job, request, message)
                if drawing is not None:
                    await self._keep(job, drawing)
        except api.EngineCrashed:
            _log.warning("The engine stopped while it drew job %d (attempt %d).", job.id, job.attempt)
            return partial(self._queue.crashed, job)
        except (api.T2IError, UserFacingError) as error:
            if isinstance(error, api.EngineError) and error.retryable:
                return partial(self._queue.requeue, job)
            return partial(self._queue.fail, job, str(error))
        except _DATABASE_TROUBLE as error:
            _log.error("Job %d waits again, because what it needs could not be read: %s", job.id, error)
            return partial(self._queue.requeue, job)
        except Exception:
            _log.exception("Job %d failed for a reason nobody foresaw.", job.id)
            sentence = "Something went wrong inside the bot; its operator finds it in the log."
            return partial(self._queue.fail, job, sentence)
        return None

    async def _write(self, job: Job, write: Write) -> bool:
        """Until the database takes it: nobody would draw a row that is left running, or end it."""
        pauses = chain(WRITE_PAUSES, repeat(WRITE_PAUSES[-1]))
        while True:
            try:
                return await write()
            except _DATABASE_TROUBLE as error:
                pause = next(pauses)
                _log.error("How job %d went could not be written; trying again in %g s: %s", job.id, pause, error)
            await asyncio.sleep(pause)

    async def _request(self, job: Job) -> api.GenerationRequest:
        checkpoint = next((info for info in self._engine.checkpoints() if info.name == job.checkpoint), None)
        options = msgspec.structs.replace(job.options, seed=job.seed, size=side(job.kind, job.options, checkpoint))
        if job.kind not in (JobKind.VARIATION, JobKind.UPSCALE):
            return options.to_request()
        if job.parent_id is not None:
            for image in await self._queue.images(job.parent_id):
                if image.index == job.parent_index and image.showing.seen:
                    with suppress(ImageLost):
                        latents = await asyncio.to_thread(self._images.read, image.latents_sha256)
                        return options.to_request((latents,))
        raise PicturesGone("The picture this starts from is gone.")

    async def _draw(self, job: Job, request: api.GenerationRequest, message: LiveMessage) -> Drawing | None:
        """Draw it and keep the board current. None when there is nobody left to draw for."""
        stream = self._engine.run(
            request,
            request_id=f"{job.id}.{job.attempt}",
            checkpoint=job.checkpoint,
            preview_every=self._preview_every,
            user=str(job.user_id),
            draft=job.options.draft,
        )
        images: list[api.ImageReady] = []
        # Iterating takes the slot before anything else can run.
        self._approaching.discard((job.id, job.attempt))
        try:
            async with aclosing(cast(AsyncGenerator[api.RequestEvent, None], stream)) as events:
                async for event in events:
                    match event:
                        case _ if message.lost:
                            return None
                        case api.Admitted(steps=steps):
                            self._board.post(job.id, Progress(0, steps))
                            message.changed()
                        case api.Progress(step=step, steps=steps, preview=preview):
                            self._board.post(job.id, Progress(step, steps, preview))
                            message.changed()
                        case api.ImageReady():
                            images.append(event)
                        case api.Done(seconds=seconds):
                            return Drawing(images, seconds)
                        case api.Failed():
                            raise api.EngineError(event.message, code=event.code, retryable=event.retryable)
            # Cancelled though nobody here asked for it, or cut off: counted, so that it cannot go on forever.
            raise api.EngineCrashed
        finally:
            self.wake()

    async def _keep(self, job: Job, drawing: Drawing) -> None:
        """Put the pictures on disk, then say so in the row; a late result of an old attempt leaves nothing behind.

        They are judged first, so that no row ever says that an unjudged picture may be shown.
        """
        await self._crowd.answered()
        verdicts = await self._judge.judge(job, [image.png for image in drawing.images])
        judged = list(zip(drawing.images, verdicts, strict=True))
        cases = {image.index: verdict.case for image, verdict in judged if verdict.case is not None}
        async with self._images.changing:
            try:
                stored = [await asyncio.to_thread(self._store, job.id, *one) for one in judged]
            except OSError as error:
                _log.error("The pictures of job %d could not be saved: %s", job.id, error)
                raise PicturesNotSaved("The pictures could not be saved; the bot's operator has to look.") from error
            rendered = partial(self._queue.rendered, job, stored, seconds=drawing.seconds, cases=cases)
            if not await self._write(job, rendered):
                files = {sha256 for image in stored for sha256 in (image.sha256, image.latents_sha256)}
                for sha256 in await self._queue.unused(files):
                    await asyncio.to_thread(self._images.delete, sha256)

    def _store(self, job_id: int, image: api.ImageReady, verdict: Verdict) -> StoredImage:
        return StoredImage(
            job_id=job_id,
            index=image.index,
            seed=image.seed,
            width=image.width,
            height=image.height,
            sha256=self._images.put(image.png),
            latents_sha256=self._images.put(image.latents),
            showing=verdict.showing,
            note=verdict.note,
            score=verdict.score,
            phash=verdict.phash,
        )

    async def _redeliver_forever(self) -> None:
        """What a crash, an outage or a failed edit left unshown is shown as soon as Discord allows."""
        shortest, longest = REDELIVERY_PAUSES
        pause = shortest
        while True:
            self._answering.clear()
            outcomes: list[Outcome] = []
            try:
                for job_id in await self._queue.unshown():
                    outcomes.append(await self._delivery.show(job_id, retry=False))
            except Exception:
                _log.exception("Messages could not be brought up to date; trying again in %g s.", pause)
            pause = min(2 * pause, longest) if Outcome.LATER in outcomes else shortest
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._answering.wait()

    async def _tell_places_forever(self) -> None:
        told: dict[int, JobSnapshot] = {}
        while True:
            await asyncio.sleep(PLACES_PAUSE)
            try:
                first = await self._queue.waiting(PLACES)
                seen = await asyncio.gather(*(self._queue.look(job_id) for job_id in first))
                before, told = told, {}
                for snapshot in seen:
                    told[snapshot.job.id] = last = before.get(snapshot.job.id, snapshot)
                    if _expects_otherwise(last, snapshot):
                        told[snapshot.job.id] = snapshot
                        await self._delivery.show(snapshot.job.id, retry=False)
            except Exception:
                _log.exception("Places in the queue could not be shown; trying again in %g s.", PLACES_PAUSE)


def _expects_otherwise(last: JobSnapshot, now: JobSnapshot) -> bool:
    if last.position != now.position or last.done_at is None or now.done_at is None:
        return (last.position, last.done_at) != (now.position, now.done_at)
    return abs((now.done_at - last.done_at).total_seconds()) >= CORRECTION


async def _end(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=LAST_WORD)


def _log_failure(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and (error := task.exception()):
        _log.error("The task %r failed.", task.get_name(), exc_info=error)
