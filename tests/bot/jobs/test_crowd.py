"""Pictures wait while many people wait for an answer, but not for ever."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

import pytest

from bot.jobs import crowd as crowds
from bot.jobs.crowd import MANY, Crowd
from bot.jobs.model import JobState
from tests.bot.jobs.conftest import Scene

BOUND = 10.0


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowds, "PATIENCE", 10 * BOUND)


async def test_only_many_are_a_crowd(patient: None) -> None:
    crowd = Crowd()
    with ExitStack() as people:
        for _ in range(MANY):
            people.enter_context(crowd.one_more())
        assert not crowd.here
        await asyncio.wait_for(crowd.answered(), BOUND)
        with crowd.one_more():
            assert crowd.here
            waiting = asyncio.create_task(crowd.answered())
            await asyncio.sleep(0)
            assert not waiting.done()
        await asyncio.wait_for(waiting, BOUND)


async def test_other_work_goes_on_though_the_crowd_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowds, "PATIENCE", 0.01)
    crowd = Crowd()
    with ExitStack() as people:
        for _ in range(MANY + 1):
            people.enter_context(crowd.one_more())
        await asyncio.wait_for(crowd.answered(), BOUND)
        assert crowd.here


async def test_no_job_is_claimed_and_no_message_edited_before_the_crowd_is_answered(
    scene: Scene, patient: None
) -> None:
    with ExitStack() as people:
        for _ in range(MANY + 1):
            people.enter_context(scene.crowd.one_more())
        job = await scene.imagine()
        ended = await scene.imagine("a green pear")
        await scene.service.cancel(ended.id)  # which is shown in its message
        await scene.dispatcher.start()
        await scene.engine.wait_ready()
        for _ in range(1000):
            await asyncio.sleep(0)
        assert (await scene.queue.get(job.id)).state is JobState.QUEUED
        assert scene.stand_in.attempts == []
    await scene.stand_in.until(lambda: len(scene.stand_in.attempts) >= 2)
    assert (await scene.queue.get(job.id)).state is not JobState.QUEUED
