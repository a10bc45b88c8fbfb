"""What was done about checkpoints, one row each: a crash leaves a row that says what it interrupted."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

from sqlalchemy import Row, or_, select, update

from bot.errors import ChangeNotFound
from bot.jobs.checkpoints import Choice, choice_of, choose
from bot.moderation import audit
from bot.moderation.audit import Deed
from bot.storage import tables
from bot.storage.session import Database

_changes = tables.checkpoint_changes


class ChangeKind(StrEnum):
    SWITCH = "switch"
    ROLLBACK = "rollback"
    RELOAD = "reload"
    ADD = "add"
    REMOVE = "remove"


class ChangeState(StrEnum):
    ASKED = "asked"
    """Somebody has to confirm it."""
    BEGUN = "begun"
    DONE = "done"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    """The bot ended meanwhile, so nothing came of it."""


@dataclass(frozen=True, slots=True)
class Change:
    id: int
    kind: ChangeKind
    state: ChangeState
    guild_id: int
    user_id: int
    channel_id: int
    message_id: int | None
    interaction_token: str = field(repr=False)
    """A secret, by which the message can be found as long as its id is not known."""
    checkpoint: str | None
    """None is the bot's own default."""
    previous: str | None
    """What a switch that is done took the place of."""
    until: datetime | None
    error: str | None
    created_at: datetime
    finished_at: datetime | None


class Changes:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(
        self,
        kind: ChangeKind,
        *,
        guild_id: int,
        user_id: int,
        channel_id: int,
        interaction_token: str,
        checkpoint: str | None,
        until: datetime | None = None,
        state: ChangeState = ChangeState.BEGUN,
    ) -> Change:
        row = _changes.insert().values(
            kind=kind,
            state=state,
            guild_id=guild_id,
            user_id=user_id,
            channel_id=channel_id,
            interaction_token=interaction_token,
            checkpoint=checkpoint,
            until=until,
            created_at=datetime.now(UTC),
        )
        async with self._database.write() as connection:
            return _change((await connection.execute(row.returning(_changes))).one())

    async def attach_message(self, change_id: int, message_id: int) -> None:
        """The message that tells of it, also after a restart; the interaction's token is of no more use."""
        await self._write(change_id, message_id=message_id, interaction_token="")

    async def get(self, change_id: int) -> Change:
        """Raises ChangeNotFound."""
        async with self._database.read() as connection:
            row = (await connection.execute(select(_changes).where(_changes.c.id == change_id))).one_or_none()
        if row is None:
            raise ChangeNotFound("Nothing is known of this any more.")
        return _change(row)

    async def confirm(self, change_id: int) -> bool:
        """Whether it was still to be confirmed; then it has begun."""
        async with self._database.write() as connection:
            result = await connection.execute(
                update(_changes)
                .where(_changes.c.id == change_id, _changes.c.state == ChangeState.ASKED)
                .values(state=ChangeState.BEGUN)
            )
            return result.rowcount == 1

    async def end(
        self, change_id: int, state: ChangeState, error: str | None = None, *, checkpoint: str | None = None
    ) -> None:
        """`checkpoint` is what it turned out to be about."""
        known = {} if checkpoint is None else {"checkpoint": checkpoint}
        values = {"state": state, "error": error, "finished_at": datetime.now(UTC), **known}
        ended = update(_changes).where(_changes.c.id == change_id).values(**values).returning(_changes)
        async with self._database.write() as connection:
            row = (await connection.execute(ended)).one()
            if state is ChangeState.DONE:
                deed = Deed(row.guild_id, row.user_id, f"checkpoint.{row.kind}", f"checkpoint {row.checkpoint}")
                await audit.append(connection, self._database, deed)

    async def commit(self, change: Change) -> Choice:
        """Have the server draw with what the switch is about, and call it done, in one transaction. Returns what the
        server had chosen before."""
        async with self._database.write() as connection:
            before = await choice_of(connection, change.guild_id)
            await choose(connection, self._database, change.guild_id, change.checkpoint, change.until)
            await connection.execute(
                update(_changes)
                .where(_changes.c.id == change.id)
                .values(state=ChangeState.DONE, previous=before.checkpoint, finished_at=datetime.now(UTC))
            )
            until = None if change.until is None else change.until.isoformat()
            deed = Deed(
                change.guild_id,
                change.user_id,
                f"checkpoint.{change.kind}",
                f"checkpoint {change.checkpoint}",
                before=before.current,
                after={"checkpoint": change.checkpoint, "until": until},
            )
            await audit.append(connection, self._database, deed)
        return before

    async def last_switch(self, guild_id: int) -> Change | None:
        """The last one that changed for good what a server draws with."""
        differs = or_(
            _changes.c.checkpoint != _changes.c.previous,
            _changes.c.checkpoint.is_(None) != _changes.c.previous.is_(None),
        )
        lasting = (
            _changes.c.kind.in_((ChangeKind.SWITCH, ChangeKind.ROLLBACK))
            & (_changes.c.state == ChangeState.DONE)
            & _changes.c.until.is_(None)
        )
        last = (
            select(_changes)
            .where(_changes.c.guild_id == guild_id, lasting, differs)
            .order_by(_changes.c.id.desc())
            .limit(1)
        )
        async with self._database.read() as connection:
            row = (await connection.execute(last)).one_or_none()
        return None if row is None else _change(row)

    async def interrupt(self) -> None:
        """What had begun when the bot ended came to nothing; to be said before any begins anew."""
        async with self._database.write() as connection:
            await connection.execute(
                update(_changes)
                .where(_changes.c.state == ChangeState.BEGUN)
                .values(state=ChangeState.INTERRUPTED, finished_at=datetime.now(UTC))
            )

    async def unshown(self) -> tuple[Change, ...]:
        """Those that ended while their message does not say so yet, oldest first."""
        left = (
            select(_changes)
            .where(_changes.c.finished_at.is_not(None), _changes.c.shown_at.is_(None))
            .order_by(_changes.c.id)
        )
        async with self._database.read() as connection:
            return tuple(_change(row) for row in await connection.execute(left))

    async def shown(self, change_id: int) -> None:
        """Its message says how it ended, or never can."""
        await self._write(change_id, shown_at=datetime.now(UTC))

    async def _write(self, change_id: int, **values: object) -> None:
        async with self._database.write() as connection:
            await connection.execute(update(_changes).where(_changes.c.id == change_id).values(**values))


def _change(row: Row[tuple[object, ...]]) -> Change:
    fields = {name: value for name, value in row._mapping.items() if name != "shown_at"}
    return Change(**fields | {"kind": ChangeKind(row.kind), "state": ChangeState(row.state)})
