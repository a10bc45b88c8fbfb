"""What somebody may have done with their own data, and moderators with somebody's pictures.

An erasure is one transaction, so that a crash leaves all of it done or none. Files follow at once, or at the next start
by the sweep; messages follow as soon as Discord takes it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.jobs.closures import EVERYWHERE
from bot.jobs.erasing import Deletions, Erased, erase_jobs
from bot.moderation import audit
from bot.moderation.audit import Deed
from bot.moderation.cases import CaseState
from bot.storage import tables
from bot.storage.images import ImageStore
from bot.storage.session import Database

FORGOTTEN = 0
"""In place of the id of a user who was erased, in rows that others still need."""
ERASED = "Whoever this was about had their data erased."

_jobs, _cases, _charges = tables.jobs, tables.cases, tables.charges


class Privacy:
    """`abandon` is told of jobs that were to be drawn, `deletions` of messages that are to go."""

    def __init__(
        self,
        database: Database,
        images: ImageStore,
        *,
        abandon: Callable[[Iterable[int]], None],
        deletions: Deletions,
    ) -> None:
        self._database = database
        self._images = images
        self._abandon = abandon
        self._deletions = deletions

    async def erase(self, user_id: int) -> int:
        """Delete whatever is kept about somebody, everywhere; returns how many jobs.

        What stays is what others need, and says of nobody whose it was; but for restrictions that hold, and for the
        GPU time used that day, which would otherwise be a way around them.
        """
        async with self._images.changing:
            async with self._database.write() as connection:
                # The lock has whoever is just asking for a picture come before all of this, or after.
                await connection.execute(select(tables.users).where(tables.users.c.id == user_id).with_for_update())
                erased = await erase_jobs(connection, self._database, _jobs.c.user_id == user_id, messages=True)
                await _forget(connection, user_id)
                asked = {"asked_at": datetime.now(UTC)}
                erasure = self._database.insert(tables.erasures).values(user_id=user_id, **asked)
                await connection.execute(erasure.on_conflict_do_update(index_elements=["user_id"], set_=asked))
                deed = Deed(EVERYWHERE, user_id, "privacy.erase", "own data", after={"jobs": erased.jobs})
                await audit.append(connection, self._database, deed)
                await audit.forget(connection, user_id)
            await self._follow(erased)
        return erased.jobs

    async def purge(self, guild_id: int, user_id: int, *, by: int) -> int:
        """Delete all of somebody's jobs in a server with their messages; returns how many."""
        theirs = (_jobs.c.user_id == user_id) & (_jobs.c.guild_id == guild_id)
        async with self._images.changing:
            async with self._database.write() as connection:
                erased = await erase_jobs(connection, self._database, theirs, messages=True)
                subject = await audit.person(connection, self._database, user_id)
                deed = Deed(guild_id, by, "user.purge", subject, after={"jobs": erased.jobs})
                await audit.append(connection, self._database, deed)
            await self._follow(erased)
        return erased.jobs

    async def _follow(self, erased: Erased) -> None:
        """What the commit has made pointless or orphaned."""
        self._abandon(erased.unfinished)
        self._deletions.wake()
        await asyncio.to_thread(self._images.delete, *erased.files)


async def _forget(connection: AsyncConnection, user_id: int) -> None:
    """All but jobs and the audit log."""
    now = datetime.now(UTC)
    await connection.execute(
        update(_cases).where(_cases.c.user_id == user_id, _cases.c.state == CaseState.OPEN).values(state=CaseState.VOID)
    )
    again = {"revision": _cases.c.revision + 1, "shown_at": None}
    mine = {"user_id": FORGOTTEN, "reason": ERASED, "note": None}
    await connection.execute(update(_cases).where(_cases.c.user_id == user_id).values(**mine, **again))
    await connection.execute(update(_cases).where(_cases.c.decided_by == user_id).values(decided_by=FORGOTTEN, **again))
    changes, restrictions = tables.checkpoint_changes, tables.restrictions
    await connection.execute(update(changes).where(changes.c.user_id == user_id).values(user_id=FORGOTTEN))
    lapsed = (restrictions.c.user_id == user_id) & (restrictions.c.until < now)
    await connection.execute(delete(restrictions).where(lapsed))
    earlier = (_charges.c.user_id == user_id) & (_charges.c.day < now.date())
    await connection.execute(update(_charges).where(earlier).values(user_id=FORGOTTEN))
    for table in (tables.reports, tables.notices, tables.terms_accepted):
        await connection.execute(delete(table).where(table.c.user_id == user_id))
    await connection.execute(delete(tables.users).where(tables.users.c.id == user_id))
