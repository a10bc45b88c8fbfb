"""Pictures wait while many people wait for an answer, but not for ever."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

import psutil
import pytest

from bot.jobs import crowd as crowds
from bot.jobs.crowd import MANY, Crowd
from bot.jobs.model import JobState
from tests.bot.jobs.conftest import Scene
from tests.conftest import until_it

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


async def test_what_draws_and_judges_is_stopped_until_the_crowd_is_answered(
    patient: None, neighbour: psutil.Process
) -> None:
    crowd = Crowd(lambda: neighbour.pid, lambda: None)
    with ExitStack() as people:
        for _ in range(MANY):
            people.enter_context(crowd.one_more())
        assert neighbour.status() != psutil.STATUS_STOPPED
        with crowd.one_more():
            await until_it(neighbour, stopped=True)
        await until_it(neighbour, stopped=False)


async def test_what_was_stopped_goes_on_though_the_crowd_does_not_end(
    monkeypatch: pytest.MonkeyPatch, neighbour: psutil.Process
) -> None:
    monkeypatch.setattr(crowds, "PATIENCE", 0.2)
    crowd = Crowd(lambda: neighbour.pid)
    with ExitStack() as people:
        for _ in range(MANY + 1):
            people.enter_context(crowd.one_more())
        await until_it(neighbour, stopped=True)
        await until_it(neighbour, stopped=False)
        assert crowd.here


async def test_crowd_upon_crowd_stops_the_others_once_in_a_while_only(
    patient: None, monkeypatch: pytest.MonkeyPatch, neighbour: psutil.Process
) -> None:
    monkeypatch.setattr(crowds, "STOP_AGAIN", BOUND)
    crowd = Crowd(lambda: neighbour.pid)
    with ExitStack() as people:
        for _ in range(MANY):
            people.enter_context(crowd.one_more())
        with crowd.one_more():
            await until_it(neighbour, stopped=True)
        await until_it(neighbour, stopped=False)
        with crowd.one_more():
            assert crowd.here
            for _ in range(100):
                await asyncio.sleep(0)
            assert neighbour.status() != psutil.STATUS_STOPPED
        monkeypatch.setattr(crowds, "STOP_AGAIN", 0.0)
        with crowd.one_more():
            await until_it(neighbour, stopped=True)


async def test_a_process_that_has_gone_holds_nobody_up(patient: None, neighbour: psutil.Process) -> None:
    neighbour.kill()
    neighbour.wait()
    crowd = Crowd(lambda: neighbour.pid)
    with ExitStack() as people:
        for _ in range(MANY + 1):
            people.enter_context(crowd.one_more())
    assert not crowd.here


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
