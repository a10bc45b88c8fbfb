"""A switch is whole or has never been: whatever fails, and whenever it is called off."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from bot.errors import SwitchFailed
from bot.jobs.changes import Change, ChangeKind, Changes, ChangeState
from bot.jobs.checkpoints import Checkpoints, Choice
from bot.jobs.measures import Measures
from bot.jobs.switching import Standing, Step, Switching
from t2i.api import Accomplished, Advanced, Errand, ErrandEvent, Failed, Shelf

from .conftest import WatchedDatabase
from .scripted_engine import EMBEDDED, ScriptedEngine, crash, draw, fail, hold

SERVER = 900


class ShelvedEngine(ScriptedEngine):
    """One that also looks after files; `problem` is what it finds wrong with them."""

    problem: str | None = None

    def __init__(self) -> None:
        super().__init__()
        self.trials: list[bool] = []
        self.settled: list[tuple[str, bool]] = []
        self.prefetched: list[str] = []

    def shelf(self) -> Shelf:
        return Shelf(checkpoints=(EMBEDDED,))

    def weights(self) -> dict[str, int]:
        return {"second": 10**9}

    def run(self, *arguments: Any, trial: bool = False, **options: Any) -> AsyncGenerator[Any, None]:
        self.trials.append(trial)
        return super().run(*arguments, **options)

    async def settle(self, checkpoint: str, *, keep: bool) -> None:
        self.settled.append((checkpoint, keep))

    async def prefetch(self, checkpoint: str) -> None:
        self.prefetched.append(checkpoint)

    async def run_errand(self, errand: Errand) -> AsyncGenerator[ErrandEvent, None]:
        yield Advanced(request_id=errand.request_id, stage="checking", done=1, total=2)
        if self.problem:
            yield Failed(request_id=errand.request_id, code="checkpoint", message=self.problem)
        else:
            yield Accomplished(request_id=errand.request_id, name="second")


class Desk:
    """Switches of one server, on a real database."""

    def __init__(self, database: WatchedDatabase) -> None:
        self.engine = ShelvedEngine()
        self.changes = Changes(database)
        self.checkpoints = Checkpoints(database)
        self.switching = self.switch_within(60.0, database)
        self.told: list[tuple[int, Standing]] = []
        self.heard: dict[int, asyncio.Event] = defaultdict(asyncio.Event)
        """By change, whether anything was told of it."""

    def switch_within(self, patience: float, database: WatchedDatabase) -> Switching:
        return Switching(
            engine=self.engine,  # type: ignore[arg-type]
            checkpoints=self.checkpoints,
            changes=self.changes,
            measures=Measures(database),
            default="embedded",
            patience=patience,
        )

    async def ask(self, checkpoint: str | None = "second", kind: ChangeKind = ChangeKind.SWITCH) -> Change:
        return await self.changes.begin(
            kind, guild_id=SERVER, user_id=1, channel_id=5, interaction_token="", checkpoint=checkpoint
        )

    async def run(self, change: Change) -> Any:
        def tell(standing: Standing) -> None:
            self.told.append((change.id, standing))
            self.heard[change.id].set()

        return await self.switching.run(change, tell)

    async def fails(self, change: Change) -> str:
        with pytest.raises(SwitchFailed) as failure:
            await self.run(change)
        ended = await self.changes.get(change.id)
        assert (ended.state, ended.error) == (ChangeState.FAILED, str(failure.value))
        assert await self.checkpoints.of_guild(SERVER) == Choice()
        return str(failure.value)


@pytest.fixture
def desk(database: WatchedDatabase) -> Desk:
    return Desk(database)


async def test_what_was_tried_is_kept_after_the_commit(desk: Desk) -> None:
    done = await desk.run(await desk.ask())
    assert done.before == Choice() and done.picture.startswith(b"png of")
    assert desk.engine.trials == [True] and desk.engine.settled == [("second", True)]
    assert await desk.checkpoints.of_guild(SERVER) == Choice("second")
    assert list(dict.fromkeys(standing.step for _, standing in desk.told)) == [
        Step.CHECKING,
        Step.LOADING,
        Step.DRAWING,
    ]


async def test_what_is_in_memory_is_tried_as_it_is_but_read_anew_by_a_reload(desk: Desk) -> None:
    await desk.run(await desk.ask("embedded"))
    await desk.run(await desk.ask("embedded", ChangeKind.RELOAD))
    assert desk.engine.trials == [False, True]
    assert desk.engine.settled == [("embedded", True)]


@pytest.mark.parametrize(
    ("script", "sentence"), [(fail, "The picture is too large"), (crash, "The image engine stopped")]
)
async def test_a_trial_that_fails_changes_nothing(desk: Desk, script: Any, sentence: str) -> None:
    desk.engine.script = script
    assert sentence in await desk.fails(await desk.ask())
    assert desk.engine.settled == [("second", False)] and desk.engine.prefetched == ["embedded"]


async def test_damaged_files_are_not_even_tried(desk: Desk) -> None:
    desk.engine.problem = "second is damaged: unet is not the file that was saved."
    assert await desk.fails(await desk.ask()) == desk.engine.problem
    assert desk.engine.trials == []


async def test_a_switch_that_takes_too_long_changes_nothing(desk: Desk, database: WatchedDatabase) -> None:
    desk.engine.script = hold
    desk.switching = desk.switch_within(0.05, database)
    assert "was not ready within" in await desk.fails(await desk.ask())
    assert desk.engine.closed_early and desk.engine.settled == [("second", False)]


async def test_a_database_that_refuses_the_commit_leaves_the_old_checkpoint(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object) -> None:
        raise OperationalError("COMMIT", None, Exception("the disk is full"))

    monkeypatch.setattr(desk.changes, "commit", refuse)
    assert "The database did not take it" in await desk.fails(await desk.ask())
    assert desk.engine.settled == [("second", False)]


async def test_changes_take_turns_and_one_can_be_called_off_meanwhile(desk: Desk) -> None:
    desk.engine.script = hold
    first, second, third = [await desk.ask() for _ in range(3)]
    async with in_background(desk, first) as running:
        await desk.engine.until(lambda: bool(desk.engine.in_flight))
        async with in_background(desk, second) as waiting, in_background(desk, third) as calm:
            await asyncio.wait_for(desk.heard[third.id].wait(), 10)
            assert [standing.ahead for change, standing in desk.told if change == third.id] == [first]
            assert [c.id for c in desk.told[-2][1].following] == [second.id, third.id]
            assert desk.switching.call_off(second.id) and not desk.switching.call_off(99)
            with pytest.raises(SwitchFailed, match="It was called off"):
                await waiting
            desk.engine.script = draw
            assert desk.switching.call_off(first.id)
            with pytest.raises(SwitchFailed, match="It was called off"):
                await running
            assert (await calm).change == third
    assert desk.engine.settled == [("second", False), ("second", True)]
    assert [(await desk.changes.get(change.id)).state for change in (first, second, third)] == [
        ChangeState.FAILED,
        ChangeState.FAILED,
        ChangeState.DONE,
    ]


@asynccontextmanager
async def in_background(desk: Desk, change: Change) -> AsyncGenerator[asyncio.Task[Any], None]:
    task = asyncio.create_task(desk.run(change))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
