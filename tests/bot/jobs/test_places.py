"""What a waiting message promises is corrected as the queue moves, and when it moves slower than was thought."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from bot.jobs import dispatcher
from bot.jobs.model import JobSnapshot

from .conftest import Scene
from .scripted_engine import draw, hold

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


async def test_the_expected_end_is_corrected_while_the_place_stays_the_same(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "PLACES_PAUSE", 0.01)
    monkeypatch.setattr(dispatcher, "CORRECTION", 0.0)
    scene.engine.capacity = 1
    scene.engine.script = draw
    await scene.dispatcher.start()
    await scene.settled(await scene.imagine("measured"))
    scene.engine.script = hold
    await scene.imagine("running", user_id=1)
    await scene.engine.running("running")

    waiting = await scene.imagine("waiting", user_id=2)

    assert (await scene.service.snapshot(waiting.id)).done_at is not None
    await scene.stand_in.until(lambda: scene.texts(waiting)[:2] == ["queued, 0 ahead"] * 2)


@pytest.mark.parametrize(
    ("position", "later", "shown"),
    [(2, 0.0, False), (1, 0.0, True), (2, 19.0, False), (2, 20.0, True), (2, -20.0, True), (2, None, True)],
)
async def test_only_what_somebody_would_notice_is_shown_anew(
    scene: Scene, position: int, later: float | None, shown: bool
) -> None:
    told = JobSnapshot(await scene.imagine(), position=2, done_at=MOMENT)
    done_at = None if later is None else MOMENT + timedelta(seconds=later)
    assert dispatcher._expects_otherwise(told, replace(told, position=position, done_at=done_at)) is shown
