"""The checkpoints to choose from, and which of them is used where."""

from __future__ import annotations

from discord import app_commands

from bot.errors import UnknownCheckpoint
from bot.jobs.service import JobService
from t2i.api import CheckpointInfo

MAX_CHOICES = 25
"""Choices that Discord shows while somebody types."""


class Catalogue:
    def __init__(self, jobs: JobService, default: str) -> None:
        self._jobs = jobs
        self._default = default

    async def all(self) -> tuple[CheckpointInfo, ...]:
        """Every checkpoint by name; empty only until the engine has started for the very first time."""
        return await self._jobs.checkpoints()

    async def find(self, name: str) -> CheckpointInfo | None:
        return next((info for info in await self.all() if info.name == name), None)

    async def current(self, guild_id: int | None) -> str:
        """The checkpoint used where the person names none."""
        return await self._jobs.guild_checkpoint(guild_id) or self._default

    async def matching(self, typed: str) -> list[CheckpointInfo]:
        """Those whose name holds what was typed so far, names that begin with it first."""
        wanted = typed.casefold()
        found = [info for info in await self.all() if wanted in info.name.casefold()]
        return sorted(found, key=lambda info: (not info.name.casefold().startswith(wanted), info.name))

    async def choices(self, typed: str) -> list[app_commands.Choice[str]]:
        found = await self.matching(typed)
        return [app_commands.Choice(name=info.name, value=info.name) for info in found[:MAX_CHOICES]]

    async def require(self, name: str) -> None:
        """Raises UnknownCheckpoint, with some offers, when there is none of that name."""
        known = await self.all()
        if not known or any(info.name == name for info in known):
            return  # before the first start nobody can tell; the engine will refuse the job itself
        offers = ", ".join(info.name for info in (await self.matching(name) or known)[:5])
        raise UnknownCheckpoint(f"There is no checkpoint named “{name[:80]}”. Choose one of: {offers}.")
