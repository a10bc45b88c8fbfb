"""What a server's managers set about moderation: where cases go, how strict it is, who moderates, which terms hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.errors import SettingRefused, TermsNotAccepted
from bot.jobs.together import Together
from bot.moderation.audit import Deed, append
from bot.storage import tables
from bot.storage.session import Database

ACCEPTANCE = "I accept the risk"
"""The words that it takes to have pictures shown which nothing judged."""

_moderation, _roles, _accepted = tables.moderation, tables.moderator_roles, tables.terms_accepted


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """None is the bot's own default, or nothing at all where there is no default."""

    review_channel_id: int | None = None
    hide_after_reports: int | None = None
    spoiler_at: float | None = None
    hold_at: float | None = None
    block_at: float | None = None
    unjudged_accepted: str | None = None
    """The words in which somebody accepted that pictures are shown which nothing judged."""
    retention_days: int | None = None
    """After how many days the bot deletes its copies of prompts and pictures."""
    terms: str | None = None
    terms_version: int = 0
    """Raised whenever the terms change, so that everybody is asked anew."""


class Servers:
    """Every change is one transaction with its entry in the audit log."""

    def __init__(self, database: Database) -> None:
        self._database = database
        # Every job asks; those that come at once are answered by one look.
        self._terms: Together[tuple[int, int], None] = Together(self._require_terms)

    async def of(self, guild_id: int) -> ServerSettings:
        async with self._database.read() as connection:
            return await _settings(connection, guild_id)

    async def change(self, guild_id: int, actor_id: int, act: str, **values: Any) -> ServerSettings:
        """Set those fields of ServerSettings, and write it down as `act`; returns what holds now."""
        async with self._database.write() as connection:
            return await self._change(connection, guild_id, actor_id, act, values)

    async def change_terms(self, guild_id: int, actor_id: int, terms: str | None) -> ServerSettings:
        """Everybody has to accept the new ones; None asks nobody for anything."""
        async with self._database.write() as connection:
            version = (await _settings(connection, guild_id)).terms_version + 1
            values = {"terms": terms, "terms_version": version}
            return await self._change(connection, guild_id, actor_id, "terms.change", values)

    async def _change(
        self, connection: AsyncConnection, guild_id: int, actor_id: int, act: str, values: dict[str, Any]
    ) -> ServerSettings:
        before = asdict(await _settings(connection, guild_id))
        statement = self._database.insert(_moderation).values(guild_id=guild_id, **values)
        await connection.execute(statement.on_conflict_do_update(index_elements=["guild_id"], set_=values))
        earlier = {name: before[name] for name in values}
        deed = Deed(guild_id, actor_id, act, "settings", before=earlier, after=values)
        await append(connection, self._database, deed)
        return ServerSettings(**before | values)

    # --- moderators -----------------------------------------------------------------------------------------------

    async def moderator_roles(self, guild_id: int) -> frozenset[int]:
        """Who wears one of these moderates, besides those who have the permission."""
        async with self._database.read() as connection:
            return frozenset(await connection.scalars(select(_roles.c.role_id).where(_roles.c.guild_id == guild_id)))

    async def add_moderator_role(self, guild_id: int, actor_id: int, role_id: int) -> bool:
        """False when it was one already."""
        row = self._database.insert(_roles).values(guild_id=guild_id, role_id=role_id).on_conflict_do_nothing()
        async with self._database.write() as connection:
            if (await connection.execute(row)).rowcount != 1:
                return False
            deed = Deed(guild_id, actor_id, "settings.role-add", f"role {role_id}")
            await append(connection, self._database, deed)
            return True

    async def remove_moderator_role(self, guild_id: int, actor_id: int, role_id: int) -> bool:
        """False when it was none."""
        there = (_roles.c.guild_id == guild_id) & (_roles.c.role_id == role_id)
        async with self._database.write() as connection:
            if (await connection.execute(_roles.delete().where(there))).rowcount != 1:
                return False
            deed = Deed(guild_id, actor_id, "settings.role-remove", f"role {role_id}")
            await append(connection, self._database, deed)
            return True

    # --- terms ----------------------------------------------------------------------------------------------------

    async def require_terms_accepted(self, guild_id: int, user_id: int) -> None:
        """Raises TermsNotAccepted when the server has terms that this person has not accepted as they are now."""
        await self._terms.ask((guild_id, user_id))

    async def accept_terms(self, guild_id: int, user_id: int, version: int) -> None:
        """Of several versions the newest counts, in whatever order they arrive."""
        values = {"version": version, "accepted_at": datetime.now(UTC)}
        statement = self._database.insert(_accepted).values(guild_id=guild_id, user_id=user_id, **values)
        async with self._database.write() as connection:
            await connection.execute(
                statement.on_conflict_do_update(
                    index_elements=["guild_id", "user_id"], set_=values, where=_accepted.c.version < version
                )
            )

    async def _require_terms(self, askers: Sequence[tuple[int, int]]) -> list[TermsNotAccepted | None]:
        guilds, users = {guild_id for guild_id, _ in askers}, {user_id for _, user_id in askers}
        of_guilds = select(_moderation).where(_moderation.c.guild_id.in_(guilds), _moderation.c.terms.is_not(None))
        of_users = select(_accepted).where(_accepted.c.guild_id.in_(guilds), _accepted.c.user_id.in_(users))
        async with self._database.read() as connection:
            terms = {row.guild_id: (row.terms, row.terms_version) for row in await connection.execute(of_guilds)}
            accepted = {(row.guild_id, row.user_id): row.version for row in await connection.execute(of_users)}

        def missing(guild_id: int, user_id: int) -> TermsNotAccepted | None:
            text, version = terms.get(guild_id, ("", 0))
            if accepted.get((guild_id, user_id), 0) >= version:
                return None
            return TermsNotAccepted(guild_id, text, version)

        return [missing(*asker) for asker in askers]


def require_order(spoiler: float | None, hold: float | None, block: float | None) -> None:
    """Raises SettingRefused unless the scores are all None, or between 0 and 1 and each no less than the one before."""
    given = [score for score in (spoiler, hold, block) if score is not None]
    if len(given) not in (0, 3):
        raise SettingRefused("Give all three scores, or none of them for the bot's own.")
    if given != sorted(given) or not all(0 <= score <= 1 for score in given):
        raise SettingRefused("The scores must be from 0 to 1, spoiler no more than hold, and hold no more than block.")


async def _settings(connection: AsyncConnection, guild_id: int) -> ServerSettings:
    row = (await connection.execute(select(_moderation).where(_moderation.c.guild_id == guild_id))).one_or_none()
    if row is None:
        return ServerSettings()
    return ServerSettings(**{name: getattr(row, name) for name in ServerSettings.__slots__})
