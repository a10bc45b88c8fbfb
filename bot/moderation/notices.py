"""What people are told in direct messages: owed in the transaction that decides it, sent once, or given up."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.moderation.cases import CaseKind
from bot.storage import tables
from bot.storage.session import Database

_notices, _cases = tables.notices, tables.cases


@dataclass(frozen=True, slots=True)
class Notice:
    id: int
    user_id: int
    case_id: int | None
    content: str
    created_at: datetime
    appealable: bool
    """It tells of a first decision."""


class Notices:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def unsent(self) -> tuple[Notice, ...]:
        """Oldest first."""
        async with self._database.read() as connection:
            first = (_cases.c.kind != CaseKind.APPEAL).label("appealable")
            statement = select(_notices, first).outerjoin(_cases, _cases.c.id == _notices.c.case_id)
            found = await connection.execute(statement.where(_notices.c.sent_at.is_(None)).order_by(_notices.c.id))
            return tuple(
                Notice(row.id, row.user_id, row.case_id, row.content, row.created_at, bool(row.appealable))
                for row in found
            )

    async def sent(self, notice_id: int) -> None:
        """Discord took it, or never will."""
        async with self._database.write() as connection:
            await connection.execute(
                update(_notices).where(_notices.c.id == notice_id).values(sent_at=datetime.now(UTC))
            )


async def owe(connection: AsyncConnection, user_id: int, content: str, *, case_id: int | None = None) -> None:
    """Owe somebody a message in the transaction that gives the reason for it."""
    row = _notices.insert().values(user_id=user_id, case_id=case_id, content=content, created_at=datetime.now(UTC))
    await connection.execute(row)
