"""The checkpoints to choose from, and which of them is used where."""

from __future__ import annotations

from discord import app_commands

from bot.errors import UnknownCheckpoint
from bot.jobs.service import JobService
from t2i.api import CheckpointInfo
from t2i.engine.client import Engine

MAX_CHOICES = 25
"""Choices that Discord shows while somebody types."""


class Catalogue:
    def __init__(self, engine: Engine, jobs: JobService, default: str) -> None:
        self._engine = engine
        self._jobs = jobs
        self._default = default

    def all(self) -> tuple[CheckpointInfo, ...]:
        """Every checkpoint the engine offers; empty until it has started for the first time."""
        return self._engine.checkpoints()

    def find(self, name: str) -> CheckpointInfo | None:
        return next((info for info in self.all() if info.name == name), None)

    def matching(self, typed: str) -> list[CheckpointInfo]:
        """Those whose name holds what was typed so far, names that begin with it first."""
        wanted = typed.casefold()
        found = [info for info in self.all() if wanted in info.name.casefold()]
        return sorted(found, key=lambda info: (not info.name.casefold().startswith(wanted), info.name))

    def choices(self, typed: str) -> list[app_commands.Choice[str]]:
        return [app_commands.Choice(name=info.name, value=info.name) for info in self.matching(typed)[:MAX_CHOICES]]

    async def current(self, guild_id: int | None) -> str:
        """The checkpoint used where the person names none."""
        return await self._jobs.guild_checkpoint(guild_id) or self._default

    def known(self, name: str) -> str:
        """The name as it is written in the catalogue. Raises UnknownCheckpoint with the nearest offers."""
        if not self.all() or self.find(name):  # while the engine starts nobody can tell; it will refuse the job itself
            return name
        offers = ", ".join(info.name for info in self.matching(name)[:5] or self.all()[:5])
        raise UnknownCheckpoint(f"There is no checkpoint named “{name[:80]}”. Choose one of: {offers}.")
