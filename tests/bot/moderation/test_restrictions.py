"""Who may not draw in a server."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from bot.moderation.restrictions import Restriction, Restrictions
from bot.storage.session import Database
from tests.bot.databases import EITHER_DATABASE

pytestmark = EITHER_DATABASE

GUILD, MANAGER = 900, 7


async def test_who_may_not_draw_is_told_until_when_and_nobody_else_is(database: Database) -> None:
    restrictions = Restrictions(database)
    later = datetime.now(UTC) + timedelta(hours=1)
    await restrictions.impose(Restriction(GUILD, 1, later, "Spam."), by=MANAGER)
    await restrictions.impose(Restriction(GUILD, 2, None, "No more."), by=MANAGER)
    await restrictions.impose(Restriction(GUILD, 3, later - timedelta(hours=2), "Long ago."), by=MANAGER)

    askers = [(GUILD, 1), (GUILD, 2), (GUILD, 3), (GUILD, 4), (GUILD + 1, 1), (None, 1)]
    answers = await asyncio.gather(*(restrictions.require_none(*asker) for asker in askers), return_exceptions=True)

    assert [str(answer) if answer else None for answer in answers] == [
        f"You may not draw in this server until <t:{int(later.timestamp())}:f>: Spam.",
        "You may not draw in this server any more: No more.",
        *(None, None, None, None),
    ]
