"""What commands and buttons may ask for."""

from __future__ import annotations

import pytest

from bot.errors import JobNotFound, ShuttingDown
from bot.jobs.model import JobState
from bot.storage.images import ImageLost

from .conftest import Scene, new_job


async def test_a_waiting_job_shows_how_many_are_ahead(scene: Scene) -> None:
    await scene.imagine(user_id=1)
    job = await scene.imagine(user_id=2)
    snapshot = await scene.service.snapshot(job.id)
    assert (snapshot.job.state, snapshot.position, snapshot.images) == (JobState.QUEUED, 1, ())


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
    assert scene.service.read_image(image.sha256)
    await scene.service.delete_images(second.id)
    with pytest.raises(ImageLost):
        scene.service.read_image(image.sha256)


async def test_a_job_that_is_not_there_is_said_to_be_gone(scene: Scene) -> None:
    for ask in (scene.service.get, scene.service.snapshot, scene.service.cancel):
        with pytest.raises(JobNotFound):
            await ask(99)


async def test_each_server_has_its_own_checkpoint(scene: Scene) -> None:
    await scene.service.set_guild_checkpoint(1, "other")
    await scene.service.set_guild_checkpoint(1, "embedded")
    assert await scene.service.guild_checkpoint(1) == "embedded"
    assert await scene.service.guild_checkpoint(2) is None
    assert await scene.service.guild_checkpoint(None) is None
    await scene.service.set_guild_checkpoint(1, None)
    assert await scene.service.guild_checkpoint(1) is None
