"""What a message about a job shows right now: rows from the database, progress from memory."""

from __future__ import annotations

from dataclasses import replace

from bot.jobs.judgement import Judge
from bot.jobs.model import JobSnapshot, JobState, Progress
from bot.jobs.queue import JobQueue


class ProgressBoard:
    """How far each running job is. Never written to the database: after a crash a job starts over anyway.

    A preview is on it only once it was screened, which is done when somebody is about to see it.
    """

    def __init__(self, queue: JobQueue, judge: Judge) -> None:
        self._queue = queue
        self._judge = judge
        self._progress: dict[int, Progress] = {}
        self._unscreened: dict[int, bytes] = {}
        """The newest preview of each job that has one."""

    def post(self, job_id: int, progress: Progress) -> None:
        """Replace what is known of the job; its preview is shown from the next `screen` on, and until then the last."""
        if progress.preview is not None:
            self._unscreened[job_id] = progress.preview
        last = self._progress.get(job_id)
        self._progress[job_id] = replace(progress, preview=None if last is None else last.preview)

    async def screen(self, job_id: int) -> None:
        """Show the newest preview from now on, as far as it may be seen."""
        if (preview := self._unscreened.pop(job_id, None)) is None:
            return
        screened = await self._judge.screen(await self._queue.get(job_id), preview)
        if (progress := self._progress.get(job_id)) is not None:
            self._progress[job_id] = replace(progress, preview=screened)

    def clear(self, job_id: int) -> None:
        self._progress.pop(job_id, None)
        self._unscreened.pop(job_id, None)

    async def snapshot(self, job_id: int) -> JobSnapshot:
        """Raises JobNotFound."""
        snapshot = await self._queue.look(job_id)
        if snapshot.job.state is not JobState.RUNNING:
            return snapshot
        return replace(snapshot, progress=self._progress.get(job_id))
