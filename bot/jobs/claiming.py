"""The statement that claims a job, made once: making it anew takes longer than the database needs to answer."""

from __future__ import annotations

from sqlalchemy import UpdateBase, bindparam, case, func, literal, select, update

from bot.jobs.closures import not_paused
from bot.jobs.model import JobState
from bot.jobs.rows import in_state
from bot.storage import tables

WINDOW = 64
"""Ready rows among which a claim may prefer a checkpoint that is already loaded."""

_jobs = tables.jobs


def claiming(running_per_user: int) -> UpdateBase:
    """Take the first in line and start an attempt of it. Parameters: `moment`, and `loaded`, names of checkpoints.

    The line are the first WINDOW jobs of users with fewer than `running_per_user` running, in queues that are not
    paused; one for a checkpoint in `loaded` stands further to the front by its own cost.
    """
    running = _jobs.alias()
    at_cap = (
        select(running.c.user_id)
        .where(running.c.state == literal(JobState.RUNNING.value, literal_execute=True))
        .group_by(running.c.user_id)
        .having(func.count() >= running_per_user)
    )
    window = (
        select(_jobs.c.id, _jobs.c.tag, _jobs.c.cost, _jobs.c.checkpoint)
        .where(in_state(JobState.QUEUED), _jobs.c.user_id.not_in(at_cap), not_paused())
        .order_by(_jobs.c.tag, _jobs.c.id)
        .limit(WINDOW)
        .with_for_update(skip_locked=True)
        .subquery()
    )
    bonus = case((window.c.checkpoint.in_(bindparam("loaded", expanding=True)), window.c.cost), else_=0.0)
    chosen = select(window.c.id).order_by(window.c.tag - bonus, window.c.id).limit(1).scalar_subquery()
    return (
        update(_jobs)
        .where(_jobs.c.id == chosen)
        .values(state=JobState.RUNNING, attempt=_jobs.c.attempt + 1, started_at=bindparam("moment"))
        .returning(_jobs)
    )
