"""Switching checkpoints as a transaction: everything is checked and tried first, one commit makes it so, and whatever
goes wrong before leaves the server with what it had.

    wait for one's turn -> check the files -> load beside the running model -> draw a picture, which is judged -> commit

Where memory has no room for both models, the engine lets requests in flight end first. Jobs keep the checkpoint that
they were queued with. Until the commit the database knows of a change that has begun, nothing else: a bot that is
killed draws with the old checkpoint when it comes back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import cast

from sqlalchemy.exc import SQLAlchemyError

from bot.errors import SwitchFailed
from bot.jobs.changes import Change, ChangeKind, Changes, ChangeState
from bot.jobs.checkpoints import Checkpoints, Choice
from bot.jobs.measures import Measure, Measures
from t2i import api
from t2i.engine.client import Engine

_log = logging.getLogger(__name__)

PATIENCE = 1800.0
"""Seconds that one switch may take, from its turn to its picture."""
PROMPT = "a red apple on a wooden table"
SEED = 1


class Step(StrEnum):
    WAITING = "waiting"
    CHECKING = "checking"
    LOADING = "loading"
    DRAWING = "drawing"


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a switch is: `ahead` has its turn before, `following` come after."""

    step: Step
    fraction: float = 0.0
    ahead: Change | None = None
    following: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True)
class Switched:
    """`before` is what the server had chosen until then; `picture` the one that was judged, as PNG."""

    change: Change
    before: Choice
    picture: bytes
    loading: float
    drawing: float
    """Seconds."""


Tell = Callable[[Standing], None]


@dataclass(eq=False, slots=True)
class _Turn:
    change: Change
    tell: Tell
    task: asyncio.Task[object]
    committing: bool = False
    """From here on it cannot be called off any more."""
    standing: Standing = field(default_factory=lambda: Standing(Step.WAITING))

    def say(self, standing: Standing) -> None:
        self.standing = standing
        self.tell(standing)


class Switching:
    """One switch at a time, in the order in which they were asked for. `turn` is held meanwhile."""

    def __init__(
        self,
        *,
        engine: Engine,
        checkpoints: Checkpoints,
        changes: Changes,
        measures: Measures,
        default: str,
        patience: float = PATIENCE,
    ) -> None:
        self._engine = engine
        self._checkpoints = checkpoints
        self._changes = changes
        self._measures = measures
        self._default = default
        self._patience = patience
        self.turn = asyncio.Lock()
        self._line: list[_Turn] = []
        self._called_off: set[int] = set()

    async def run(self, change: Change, tell: Tell) -> Switched:
        """Do a switch, a rollback or a reload that has begun. Raises SwitchFailed; then everything is as before."""
        work = asyncio.create_task(self._wait_and_transact(change, tell), name=f"{change.kind} {change.id}")
        try:
            return await work
        except asyncio.CancelledError:
            if change.id not in self._called_off:
                raise
            sentence = "It was called off."
            await self._changes.end(change.id, ChangeState.FAILED, sentence)
            raise SwitchFailed(sentence) from None
        finally:
            self._called_off.discard(change.id)

    def call_off(self, change_id: int) -> bool:
        """End one that waits or is under way, with everything as before; False when it is too late for that."""
        for turn in self._line:
            if turn.change.id == change_id and not turn.committing:
                self._called_off.add(change_id)
                return turn.task.cancel()
        return False

    async def _wait_and_transact(self, change: Change, tell: Tell) -> Switched:
        task = asyncio.current_task()
        assert task is not None
        mine = _Turn(change, tell, task)
        self._line.append(mine)
        try:
            if mine is not self._line[0]:
                first = self._line[0]
                following = tuple(turn.change for turn in self._line[1:])
                first.say(replace(first.standing, following=following))
                mine.say(Standing(Step.WAITING, ahead=first.change))
            async with self.turn:
                return await self._transact(mine)
        finally:
            self._line.remove(mine)

    async def _transact(self, mine: _Turn) -> Switched:
        change = mine.change
        name = change.checkpoint or self._default
        before: tuple[str, ...] = ()
        fresh = kept = False
        try:
            async with asyncio.timeout(self._patience):
                await self._engine.wait_ready()
                before = self._engine.loaded()
                fresh = change.kind is ChangeKind.RELOAD or name not in before
                await self._check(mine, name)
                drawn = await self._try(mine, name, fresh=fresh)
            mine.committing = True
            choice = await self._commit(change)
            kept = True
        except (api.T2IError, SQLAlchemyError, OSError, TimeoutError) as error:
            sentence = self._sentence(name, error)
            await self._changes.end(change.id, ChangeState.FAILED, sentence)
            _log.warning("The %s to %s came to nothing: %s", change.kind, name, sentence)
            raise SwitchFailed(sentence) from error
        finally:
            if fresh:
                await self._engine.settle(name, keep=kept)
            if not kept:
                # Whoever had to leave for it comes back before anybody asks.
                for other in before:
                    await self._engine.prefetch(other)
            await self._remember()
        _log.info("The %s to %s is done.", change.kind, name)
        picture, loading, drawing = drawn
        return Switched(change, choice, picture, loading, drawing)

    async def _check(self, mine: _Turn, name: str) -> None:
        """Every file is what it should be. Raises CheckpointError."""
        errand = api.Verify(request_id=f"check {mine.change.id}", checkpoint=name)
        stream = self._engine.run_errand(errand)
        async with aclosing(cast(AsyncGenerator[api.ErrandEvent, None], stream)) as events:
            async for event in events:
                match event:
                    case api.Advanced(done=done, total=total):
                        self._say(mine, Step.CHECKING, done / total if total else 1.0)
                    case api.Failed(message=message):
                        raise api.CheckpointError(message)

    async def _try(self, mine: _Turn, name: str, *, fresh: bool) -> tuple[bytes, float, float]:
        """A picture and the seconds until it could be begun and until it was done. Raises T2IError."""
        self._say(mine, Step.LOADING)
        info = next((info for info in self._engine.checkpoints() if info.name == name), None)
        side = info.sizes[0] if info else None
        request = api.GenerationRequest(prompt=PROMPT, images=1, seed=SEED, width=side, height=side)
        stream = self._engine.run(
            request, request_id=f"try {mine.change.id}", checkpoint=name, preview_every=0, trial=fresh
        )
        clock = asyncio.get_running_loop().time
        began = loaded = clock()
        picture: bytes | None = None
        async with aclosing(cast(AsyncGenerator[api.RequestEvent, None], stream)) as events:
            async for event in events:
                match event:
                    case api.Admitted():
                        loaded = clock()
                    case api.Progress(step=step, steps=steps):
                        self._say(mine, Step.DRAWING, step / steps)
                    case api.ImageReady(png=png):
                        picture = png
                    case api.Failed(message=message, code=code):
                        raise api.EngineError(message, code=code)
        if picture is None:
            raise api.EngineError("No picture came of it.")
        drawing = clock() - loaded
        if info is not None:
            await self._measures.record(info.sha256, Measure(drawing, self._engine.weights().get(name)))
        return picture, loaded - began, drawing

    async def _commit(self, change: Change) -> Choice:
        if change.kind is not ChangeKind.RELOAD:
            return await self._changes.commit(change)
        await self._changes.end(change.id, ChangeState.DONE)
        return await self._checkpoints.of_guild(change.guild_id)

    async def _remember(self) -> None:
        """A check may have found what is damaged, or is back in order."""
        if offered := self._engine.checkpoints():
            with suppress(SQLAlchemyError, OSError):
                await self._checkpoints.record(offered)

    def _say(self, mine: _Turn, step: Step, fraction: float = 0.0) -> None:
        following = tuple(turn.change for turn in self._line if turn is not mine)
        mine.say(Standing(step, fraction, following=following))

    def _sentence(self, name: str, error: Exception) -> str:
        match error:
            case TimeoutError():
                return f"{name} was not ready within {self._patience / 60:.0f} minutes."
            case api.T2IError():
                return str(error)
        return "The database did not take it; the bot's operator finds the reason in the log."
