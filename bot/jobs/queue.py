"""The queue: every state a job passes through, each step one transaction on SQLite or PostgreSQL.

Fairness is start-time fair queueing (Goyal, Vin and Cheng, 1996). On admission a job gets `tag = max(virtual time,
where its user's last job ended)` and ends at `tag + cost / weight`; virtual time is the largest tag served so far, and
the smallest tag is served next. Someone with a hundred jobs waiting therefore advances as fast as someone with one,
nobody saves up credit by staying away, and whoever comes anew waits for at most one job of everybody else.

A claim raises `attempt`, and whatever a claim leads to is written only while that attempt still runs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from sqlalchemy import CursorResult, Row, bindparam, case, func, literal, null, select, true, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.elements import ColumnElement

from bot.errors import JobNotFound
from bot.jobs import quota
from bot.jobs.admitting import Admissions, Asked
from bot.jobs.claiming import claiming
from bot.jobs.closures import EVERYWHERE, closed_servers, not_paused
from bot.jobs.estimates import Estimates
from bot.jobs.model import Closure, Job, JobSnapshot, JobState, NewJob, Showing, StoredImage
from bot.jobs.quota import Terms
from bot.jobs.rows import image_of, in_state, job_of, now, used_files
from bot.jobs.together import Together
from bot.moderation import audit
from bot.moderation.audit import Deed
from bot.moderation.cases import CaseKind, appealable, open_case
from bot.storage import tables
from bot.storage.session import Database

MAX_CRASHES = 3
"""Engine crashes after which a job is given up."""

STANDARD = Terms()
NO_CASES: Mapping[int, str] = MappingProxyType({})
_jobs, _images = tables.jobs, tables.images


class JobQueue:
    """Jobs at rest. Knows neither engine nor Discord."""

    def __init__(self, database: Database, *, running_per_user: int = 2, queued_per_user: int = 50) -> None:
        self._database = database
        self.estimates = Estimates(database)
        self._claiming = claiming(running_per_user)
        self._admissions = Admissions(database, queued_per_user=queued_per_user)
        self._messages: Together[tuple[int, int], bool] = Together(self._attach_messages)
        self._looks: Together[int, JobSnapshot] = Together(self._look)

    async def submit(
        self, new: NewJob, *, cost: float, size: int | None = None, steps: int | None = None, terms: Terms = STANDARD
    ) -> Job:
        """Admit a job; the same interaction again gives the job it made before.

        Raises QueueClosed, QueueFull or QuotaUsedUp, with nothing written.
        """
        return await self._admissions.admit(Asked(new, cost, size, steps, terms))

    async def claim(self, *, loaded: Collection[str] = ()) -> Job | None:
        """Take the next job in fair order and start a new attempt of it; None when nobody's turn has come.

        A checkpoint in `loaded` moves a job forward by its own cost, which saves loading models to and fro and can hold
        nobody up for longer than that; see `bot.jobs.claiming`.
        """
        async with self._database.write() as connection:
            claimed = await connection.execute(self._claiming, {"loaded": list(loaded), "moment": now()})
            row = claimed.one_or_none()
        return None if row is None else job_of(row)

    async def rendered(
        self, job: Job, images: Sequence[StoredImage], *, seconds: float, cases: Mapping[int, str] = NO_CASES
    ) -> bool:
        """Every picture is on disk, and `cases` says by index why a moderator is to look at it.

        False, and nothing written, when this attempt is no longer the one that counts.
        """
        async with self._database.write() as connection:
            if not await _end_attempt(connection, job, state=JobState.RENDERED, seconds=seconds, finished_at=now()):
                return False
            rows = [{name: getattr(image, name) for name in StoredImage.__slots__} for image in images]
            await connection.execute(_images.insert(), rows)
            for image in images:
                if (reason := cases.get(image.index)) is not None and job.guild_id is not None:
                    await open_case(
                        connection,
                        CaseKind.PICTURE,
                        guild_id=job.guild_id,
                        user_id=job.user_id,
                        reason=reason,
                        job_id=job.id,
                        index=image.index,
                        score=image.score,
                    )
            await quota.settle(connection, job.id, seconds)
            return True

    async def fail(self, job: Job, sentence: str) -> bool:
        """The attempt came to nothing. False when it is no longer the one that counts."""
        async with self._database.write() as connection:
            if not await _end_attempt(connection, job, state=JobState.FAILED, error=sentence, finished_at=now()):
                return False
            await quota.refund(connection, job.id)
            return True

    async def requeue(self, job: Job) -> bool:
        """Back to its old place, as if it had not been claimed. False when the attempt no longer counts."""
        async with self._database.write() as connection:
            return await _end_attempt(connection, job, state=JobState.QUEUED, started_at=None)

    async def crashed(self, job: Job) -> bool:
        """The engine died under it: back to its place, or failed when it was there too often."""
        given_up = job.crashes + 1 >= MAX_CRASHES
        if given_up:
            sentence = f"The image engine stopped {MAX_CRASHES} times while it drew this, so it was given up."
            ending = {"state": JobState.FAILED, "error": sentence, "finished_at": now()}
        else:
            ending = {"state": JobState.QUEUED, "started_at": None}
        async with self._database.write() as connection:
            if not await _end_attempt(connection, job, crashes=job.crashes + 1, **ending):
                return False
            if given_up:
                await quota.refund(connection, job.id)
            return True

    async def cancel(self, job_id: int, deed: Deed | None = None) -> bool:
        """Cancel it while it is held, waits or is drawn; False when it is past that. Raises JobNotFound."""
        async with self._database.write() as connection:
            if await _first(connection, _jobs.c.id == job_id) is None:
                raise _not_found()
            result = await connection.execute(
                update(_jobs)
                .where(_jobs.c.id == job_id, in_state(JobState.HELD, JobState.QUEUED, JobState.RUNNING))
                .values(state=JobState.CANCELLED, finished_at=now())
            )
            if not _changed(result):
                return False
            await quota.refund(connection, job_id)
            if deed is not None:
                await audit.append(connection, self._database, deed)
            return True

    async def clear(self, guild_id: int, deed: Deed | None = None) -> int:
        """Cancel every waiting job of a server, or of all with EVERYWHERE. Returns how many."""
        async with self._database.write() as connection:
            cleared = await connection.scalars(
                update(_jobs)
                .where(in_state(JobState.QUEUED), _of_guild(guild_id))
                .values(state=JobState.CANCELLED, finished_at=now())
                .returning(_jobs.c.id)
            )
            job_ids = cleared.all()
            await quota.refund(connection, *job_ids)
            if deed is not None:
                await audit.append(connection, self._database, replace(deed, after={"cancelled": len(job_ids)}))
            return len(job_ids)

    async def recover(self, *, spare: Collection[int] = ()) -> int:
        """Every running job but those is drawn by nobody, so it waits again in its old place. Returns how many."""
        async with self._database.write() as connection:
            result = await connection.execute(
                update(_jobs)
                .where(in_state(JobState.RUNNING), _jobs.c.id.not_in(spare))
                .values(state=JobState.QUEUED, started_at=None)
            )
            return result.rowcount

    async def attach_message(self, job_id: int, message_id: int) -> bool:
        """The message that was created at the ack; the first one stays. False when the job was erased meanwhile."""
        return await self._messages.ask((job_id, message_id))

    async def _attach_messages(self, attached: Sequence[tuple[int, int]]) -> Sequence[bool]:
        statement = update(_jobs).where(_jobs.c.id == bindparam("job"), _jobs.c.message_id.is_(None))
        async with self._database.write() as connection:
            await connection.execute(
                statement.values(message_id=bindparam("message")),
                [{"job": job_id, "message": message_id} for job_id, message_id in attached],
            )
            asked = select(_jobs.c.id).where(_jobs.c.id.in_([job_id for job_id, _ in attached]))
            there = set(await connection.scalars(asked))
        return [job_id in there for job_id, _ in attached]

    async def forget_token(self, job_id: int) -> None:
        """The interaction token is of no more use."""
        async with self._database.write() as connection:
            await connection.execute(update(_jobs).where(_jobs.c.id == job_id).values(interaction_token=""))

    async def shown(self, job: Job) -> bool:
        """The message shows how the job ended, so nothing is left to do and the token is erased.

        Unless something else is to be shown since `job` was read: then it is shown once more.
        """
        ended = JobState.DONE if job.state is JobState.RENDERED else job.state
        shown_at = case((_jobs.c.revision == job.revision, now()), else_=null())
        async with self._database.write() as connection:
            result = await connection.execute(
                update(_jobs)
                .where(_jobs.c.id == job.id, _jobs.c.state == job.state, _jobs.c.shown_at.is_(None))
                .values(state=ended, shown_at=shown_at, interaction_token="")
            )
            return _changed(result)

    async def unshowable(self, job_id: int, state: JobState, sentence: str, *, give_up: bool) -> None:
        """Its message cannot show the result: end the job in `state`, unless it has ended already.

        With `give_up` the message is beyond reach and no edit is tried again.
        """
        unended = in_state(JobState.HELD, JobState.QUEUED, JobState.RUNNING, JobState.RENDERED)
        async with self._database.write() as connection:
            ended = await connection.execute(
                update(_jobs)
                .where(_jobs.c.id == job_id, unended)
                .values(state=state, error=sentence, finished_at=now())
            )
            if _changed(ended):
                await quota.refund(connection, job_id)
            if give_up:
                await connection.execute(
                    update(_jobs)
                    .where(_jobs.c.id == job_id, _jobs.c.shown_at.is_(None))
                    .values(shown_at=now(), interaction_token="")
                )

    async def unshown(self) -> tuple[int, ...]:
        """Jobs that ended while their message does not show it yet, oldest first."""
        async with self._database.read() as connection:
            found = await connection.scalars(
                select(_jobs.c.id)
                .where(_jobs.c.finished_at.is_not(None), _jobs.c.shown_at.is_(None))
                .order_by(_jobs.c.id)
            )
            return tuple(found)

    async def waiting(self, limit: int) -> tuple[int, ...]:
        """The first jobs in line."""
        line = select(_jobs.c.id).where(in_state(JobState.QUEUED), not_paused()).order_by(_jobs.c.tag, _jobs.c.id)
        async with self._database.read() as connection:
            return tuple(await connection.scalars(line.limit(limit)))

    async def line(
        self, *, user_id: int | None = None, guild_id: int | None = None, limit: int
    ) -> tuple[tuple[JobSnapshot, ...], int]:
        """The first jobs that are drawn, wait or are held, of a user or of a server, in the order of their turns, and
        how many there are. EVERYWHERE stands for all servers."""
        whose = _jobs.c.user_id == user_id if user_id is not None else _of_guild(guild_id)
        there = whose & in_state(JobState.HELD, JobState.QUEUED, JobState.RUNNING)
        order = (_jobs.c.state != literal(JobState.RUNNING.value), _jobs.c.tag, _jobs.c.id)
        async with self._database.read() as connection:
            count = await connection.scalar(select(func.count()).select_from(_jobs).where(there))
            rows = (await connection.execute(select(_jobs).where(there).order_by(*order).limit(limit))).all()
            return await self._snapshots(connection, rows), count or 0

    async def position(self, job: Job) -> int | None:
        """Jobs ahead of it; None unless it waits."""
        return (await self.look(job.id)).position

    async def get(self, job_id: int) -> Job:
        """Raises JobNotFound."""
        async with self._database.read() as connection:
            job = await _first(connection, _jobs.c.id == job_id)
        if job is None:
            raise _not_found()
        return job

    async def images(self, job_id: int) -> tuple[StoredImage, ...]:
        async with self._database.read() as connection:
            return tuple((await _images_of(connection, [job_id]))[job_id])

    async def look(self, job_id: int) -> JobSnapshot:
        """The job with its place in the queue or its pictures, all of one moment. Raises JobNotFound."""
        return await self._looks.ask(job_id)

    async def _look(self, job_ids: Sequence[int]) -> list[JobSnapshot | Exception]:
        async with self._database.read() as connection:
            rows = (await connection.execute(select(_jobs).where(_jobs.c.id.in_(job_ids)))).all()
            found = {snapshot.job.id: snapshot for snapshot in await self._snapshots(connection, rows)}
        return [found.get(job_id) or _not_found() for job_id in job_ids]

    async def _snapshots(
        self, connection: AsyncConnection, rows: Sequence[Row[tuple[object, ...]]]
    ) -> tuple[JobSnapshot, ...]:
        """As many statements for many jobs as for one."""
        waiting = [row for row in rows if row.state == JobState.QUEUED]
        images = await _images_of(connection, [row.id for row in rows if row.state != JobState.QUEUED])
        outlooks = await self.estimates.outlooks(connection, waiting) if waiting else {}
        paused = await closed_servers(connection, Closure.PAUSED) if waiting else set()
        refused = [row.id for row in rows if row.state == JobState.FAILED]
        refused += [job_id for job_id, theirs in images.items() if any(i.showing is Showing.REMOVED for i in theirs)]
        appeals = await appealable(connection, refused) if refused else {}

        def snapshot(row: Row[tuple[object, ...]]) -> JobSnapshot:
            if (outlook := outlooks.get(row.id)) is None:
                return JobSnapshot(job_of(row), images=tuple(images[row.id]), appeal=appeals.get(row.id))
            held = not paused.isdisjoint((EVERYWHERE, row.guild_id))
            done_at = None if held else outlook.done_at
            return JobSnapshot(job_of(row), position=outlook.position, paused=held, done_at=done_at)

        return tuple(snapshot(row) for row in rows)

    async def delete_images(self, job_id: int, deed: Deed | None = None) -> set[str]:
        """Forget the job's pictures; returns the files that no other picture uses."""
        async with self._database.write() as connection:
            gone = (await _images_of(connection, [job_id]))[job_id]
            await connection.execute(_images.delete().where(_images.c.job_id == job_id))
            files = {name for image in gone for name in (image.sha256, image.latents_sha256) if name}
            unused = files - await used_files(connection, files)
            if deed is not None:
                await audit.append(connection, self._database, deed)
            return unused

    async def erased_lately(self) -> bool:
        """Somebody had all of their pictures erased, and the day is not over."""
        async with self._database.read() as connection:
            return await connection.scalar(select(tables.erasures.c.user_id).limit(1)) is not None

    async def unused(self, files: set[str]) -> set[str]:
        """Those of `files` that no picture refers to."""
        async with self._database.read() as connection:
            return files - await used_files(connection, files)


async def _end_attempt(connection: AsyncConnection, job: Job, **values: object) -> bool:
    """The fence: only the attempt that is running may end itself."""
    result = await connection.execute(
        update(_jobs)
        .where(_jobs.c.id == job.id, _jobs.c.attempt == job.attempt, in_state(JobState.RUNNING))
        .values(**values)
    )
    return _changed(result)


async def _first(connection: AsyncConnection, condition: ColumnElement[bool]) -> Job | None:
    row = (await connection.execute(select(_jobs).where(condition))).one_or_none()
    return None if row is None else job_of(row)


async def _images_of(connection: AsyncConnection, job_ids: Sequence[int]) -> defaultdict[int, list[StoredImage]]:
    found: defaultdict[int, list[StoredImage]] = defaultdict(list)
    if job_ids:
        theirs = select(_images).where(_images.c.job_id.in_(job_ids)).order_by(_images.c.index)
        for row in await connection.execute(theirs):
            found[row.job_id].append(image_of(row))
    return found


def _of_guild(guild_id: int | None) -> ColumnElement[bool]:
    return true() if guild_id == EVERYWHERE else _jobs.c.guild_id == guild_id


def _changed(result: CursorResult[tuple[()]]) -> bool:
    return result.rowcount == 1


def _not_found() -> JobNotFound:
    return JobNotFound("That job is gone.")
