"""What a message about a job shows right now: rows from the database, progress from memory."""

from __future__ import annotations

from dataclasses import replace

from bot.jobs.model import JobSnapshot, JobState, Progress
from bot.jobs.queue import JobQueue


class ProgressBoard:
    """How far each running job is. Never written to the database: after a crash a job starts over anyway."""

    def __init__(self, queue: JobQueue) -> None:
        self._queue = queue
        self._progress: dict[int, Progress] = {}

    def post(self, job_id: int, progress: Progress) -> None:
        """Replace what is known of the job; a progress without preview keeps the last preview."""
        last = self._progress.get(job_id)
        if progress.preview is None and last is not None:
            progress = replace(progress, preview=last.preview)
        self._progress[job_id] = progress

    def clear(self, job_id: int) -> None:
        self._progress.pop(job_id, None)

    async def snapshot(self, job_id: int) -> JobSnapshot:
        """Raises JobNotFound."""
        snapshot = await self._queue.look(job_id)
        if snapshot.job.state is not JobState.RUNNING:
            return snapshot
        return replace(snapshot, progress=self._progress.get(job_id))
