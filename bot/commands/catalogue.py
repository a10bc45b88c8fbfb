"""The checkpoints to choose from, and which of them is used where."""

from __future__ import annotations

from collections.abc import Callable

from discord import app_commands

from bot.errors import CheckpointNotAllowed, CheckpointRefused, UnknownCheckpoint
from bot.jobs.checkpoints import Checkpoints
from t2i.api import CheckpointInfo, Shelf

MAX_CHOICES = 25
"""Choices that Discord shows while somebody types."""


class Catalogue:
    """`default` is the bot's own: what draws where a server chose nothing."""

    def __init__(self, checkpoints: Checkpoints, default: str, shelf: Callable[[], Shelf] = Shelf) -> None:
        self._checkpoints = checkpoints
        self._shelf = shelf
        self.default = default

    async def all(self) -> tuple[CheckpointInfo, ...]:
        """Every checkpoint by name; empty only until the engine has started for the very first time."""
        return await self._checkpoints.all()

    async def find(self, name: str) -> CheckpointInfo | None:
        return await self._checkpoints.get(name)

    async def current(self, guild_id: int | None) -> str:
        """The checkpoint used where the person names none."""
        return (await self._checkpoints.of_guild(guild_id)).current or self.default

    async def offered(self, guild_id: int | None) -> tuple[CheckpointInfo, ...]:
        """Those that members of the server may draw with."""
        allowed = await self._allowed(guild_id)
        return tuple(info for info in await self.all() if allowed is None or info.name in allowed)

    async def _allowed(self, guild_id: int | None) -> frozenset[str] | None:
        """What the server lists, and what it draws with itself; None means everything."""
        listed = await self._checkpoints.allowed(guild_id)
        return listed | {await self.current(guild_id)} if listed else None

    async def choices(self, typed: str, guild_id: int | None = None) -> list[app_commands.Choice[str]]:
        """Names that hold what was typed so far, those that begin with it first; of a server, those it offers."""
        known = await self.all() if guild_id is None else await self.offered(guild_id)
        return [app_commands.Choice(name=info.name, value=info.name) for info in _matching(known, typed)[:MAX_CHOICES]]

    def require_sound(self, name: str) -> None:
        """Raises CheckpointRefused, with the reason, for one that was found to be damaged."""
        for damaged in self._shelf().damaged:
            if damaged.name == name:
                raise CheckpointRefused(damaged.problem)

    async def require(self, name: str) -> None:
        """Raises UnknownCheckpoint, with some offers, when there is none of that name, not even a damaged one."""
        known = await self.all()
        names = [info.name for info in known] + [damaged.name for damaged in self._shelf().damaged]
        if not known or name in names:
            return  # before the first start nobody can tell; the engine will refuse the job itself
        offers = ", ".join(info.name for info in (_matching(known, name) or known)[:5])
        raise UnknownCheckpoint(f"There is no checkpoint named “{name[:80]}”. Choose one of: {offers}.")

    async def require_allowed(self, name: str, guild_id: int | None) -> None:
        """Raises UnknownCheckpoint, or CheckpointNotAllowed where the server's managers do not offer it."""
        await self.require(name)
        allowed = await self._allowed(guild_id)
        if allowed is not None and name not in allowed:
            offers = ", ".join(sorted(allowed)[:5])
            raise CheckpointNotAllowed(f"{name} does not draw in this server. Choose one of: {offers}.")


def _matching(known: tuple[CheckpointInfo, ...], typed: str) -> list[CheckpointInfo]:
    wanted = typed.casefold()
    found = [info for info in known if wanted in info.name.casefold()]
    return sorted(found, key=lambda info: (not info.name.casefold().startswith(wanted), info.name))
