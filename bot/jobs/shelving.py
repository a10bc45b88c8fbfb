"""Adding checkpoints and LoRAs to the folder that all servers share, and taking them out again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import cast

from bot.errors import CheckpointInUse, CheckpointRefused
from bot.jobs.checkpoints import Checkpoints
from t2i import api
from t2i.engine.client import Engine

_log = logging.getLogger(__name__)

PATIENCE = 300.0
"""Seconds that an engine that is being started is waited for."""

Tell = Callable[[api.Advanced], None]


class Shelving:
    """`turn` is held while files go, so that no switch meets them half gone."""

    def __init__(self, *, engine: Engine, checkpoints: Checkpoints, turn: asyncio.Lock, default: str) -> None:
        self._engine = engine
        self._checkpoints = checkpoints
        self._turn = turn
        self._default = default
        self._adding: dict[str, asyncio.Task[api.Accomplished]] = {}

    def shelf(self) -> api.Shelf:
        """What there is, as far as the engine said; empty while it starts for the first time."""
        return self._engine.shelf()

    async def add(self, errand: api.Add, tell: Tell) -> api.Accomplished:
        """Raises CheckpointRefused; then nothing was added."""
        work = self._adding[errand.request_id] = asyncio.create_task(self._run(errand, tell), name=errand.request_id)
        try:
            return await work
        except asyncio.CancelledError:
            if errand.request_id in self._adding:
                raise
            raise CheckpointRefused("It was called off.") from None
        finally:
            self._adding.pop(errand.request_id, None)

    def call_off(self, request_id: str) -> bool:
        """End what is being added, with nothing added; False when it is not."""
        work = self._adding.pop(request_id, None)
        return work is not None and work.cancel()

    async def remove(self, errand: api.Remove) -> api.Accomplished:
        """Raises CheckpointInUse or CheckpointRefused; then everything is still there."""
        async with self._turn:
            if not errand.lora:
                await self.require_unused(errand.name)
            return await self._run(errand, _nobody)

    async def require_unused(self, name: str) -> None:
        """Raises CheckpointInUse for a checkpoint that somebody would miss."""
        if name == self._default:
            raise CheckpointInUse(f"{name} is what this bot draws with where nothing else was chosen, so it stays.")
        uses = await self._checkpoints.uses(name)
        if uses.guilds:
            servers = "a server draws" if uses.guilds == 1 else f"{uses.guilds} servers draw"
            raise CheckpointInUse(f"{name} stays, because {servers} with it: choose another one first.")
        if uses.jobs:
            jobs = "a job waits" if uses.jobs == 1 else f"{uses.jobs} jobs wait"
            raise CheckpointInUse(f"{name} stays for now, because {jobs} for it: try again when it is drawn.")

    async def _run(self, errand: api.Errand, tell: Tell) -> api.Accomplished:
        try:
            async with asyncio.timeout(PATIENCE):
                await self._engine.wait_ready()
            stream = self._engine.run_errand(errand)
            async with aclosing(cast(AsyncGenerator[api.ErrandEvent, None], stream)) as events:
                async for event in events:
                    match event:
                        case api.Advanced():
                            tell(event)
                        case api.Failed(message=message):
                            raise CheckpointRefused(message)
                        case api.Accomplished():
                            await self._checkpoints.record(self._engine.checkpoints())
                            _log.info("%s of %s is done.", type(errand).__name__, event.name)
                            return event
        except TimeoutError:
            raise CheckpointRefused("The image engine is not ready: try again in some minutes.") from None
        except api.EngineError as error:
            raise CheckpointRefused(str(error)) from error
        raise CheckpointRefused("The image engine did not say what came of it; try again.")


def _nobody(_: api.Advanced) -> None:
    """Nobody looks on."""
