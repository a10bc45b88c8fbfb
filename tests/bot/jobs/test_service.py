"""What commands and buttons may ask for."""

from __future__ import annotations

from collections import Counter

import pytest

from bot.errors import JobNotFound, QuotaUsedUp, ShuttingDown
from bot.jobs.closures import EVERYWHERE
from bot.jobs.model import Closure, JobState
from bot.jobs.quota import Policy
from bot.storage.images import ImageLost

from .conftest import Scene, new_job


async def test_a_waiting_job_shows_how_many_are_ahead(scene: Scene) -> None:
    await scene.imagine(user_id=1)
    job = await scene.imagine(user_id=2)
    snapshot = await scene.service.snapshot(job.id)
    assert (snapshot.job.state, snapshot.position, snapshot.images) == (JobState.QUEUED, 1, ())


@pytest.mark.parametrize("guild_id", [900, EVERYWHERE])
async def test_waiting_messages_say_when_their_queue_is_paused_and_when_it_goes_on(scene: Scene, guild_id: int) -> None:
    job = await scene.imagine(user_id=1)
    await scene.service.close(guild_id, Closure.PAUSED)
    await scene.stand_in.until(lambda: scene.texts(job) == ["queued, paused"])
    await scene.service.open(guild_id)
    await scene.stand_in.until(lambda: scene.texts(job)[1:] == ["queued, 0 ahead"])


async def test_somebody_with_a_heavier_role_gets_more_turns(scene: Scene) -> None:
    scene.service = scene.serve(Policy(role_weights={7: 2.0}))
    for _ in range(6):
        await scene.imagine(user_id=1, role_ids=(7,))
    for _ in range(3):
        await scene.imagine(user_id=2, role_ids=(8,))
    turns = []
    while job := await scene.queue.claim():
        turns.append(job.user_id)
        await scene.queue.fail(job, "Next, please.")
    assert Counter(turns[:6]) == {1: 4, 2: 2}


async def test_what_jobs_took_before_is_reserved_of_a_quota(scene: Scene) -> None:
    scene.service = scene.serve(Policy(user_limit=4.0))
    await scene.dispatcher.start()
    await scene.settled(await scene.imagine(steps=10, images=1))
    await scene.settled(await scene.imagine(steps=10, images=1))
    with pytest.raises(QuotaUsedUp, match="1 of 4 s of GPU time left for today, and this would take about 2 s"):
        await scene.service.submit(new_job(steps=10, images=1))
    await scene.service.submit(new_job(steps=1, images=1))


async def test_nothing_is_admitted_while_the_bot_stops(scene: Scene) -> None:
    await scene.dispatcher.start()
    await scene.dispatcher.stop(grace=0)
    with pytest.raises(ShuttingDown, match="keep their place"):
        await scene.service.submit(new_job())


async def test_deleting_pictures_spares_those_of_another_job(scene: Scene) -> None:
    await scene.dispatcher.start()
    first = await scene.settled(await scene.imagine("same", seed=1, images=1))
    second = await scene.settled(await scene.imagine("same", seed=1, images=1))
    [image] = await scene.service.images(first.id)
    await scene.service.delete_images(first.id)
    assert await scene.service.images(first.id) == ()
    assert scene.images.read(image.sha256)
    await scene.service.delete_images(second.id)
    with pytest.raises(ImageLost):
        scene.images.read(image.sha256)


async def test_a_job_that_is_not_there_is_said_to_be_gone(scene: Scene) -> None:
    for ask in (scene.service.get, scene.service.snapshot, scene.service.cancel):
        with pytest.raises(JobNotFound):
            await ask(99)
