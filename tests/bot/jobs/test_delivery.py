"""One message per job, edited over real HTTP through everything Discord may answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import discord
import pytest
from sqlalchemy import update

from bot.jobs import delivery
from bot.jobs.decided import set_showing
from bot.jobs.delivery import Delivery, Encoding, Outcome, Rendered
from bot.jobs.model import Job, JobSnapshot, JobState, Progress, Showing, StoredImage
from bot.storage.tables import jobs

from .conftest import Scene, new_job, render
from .discord_stand_in import DROP, Answer, Refusal


async def claimed(scene: Scene, **changes: object) -> Job:
    await scene.imagine(**changes)
    job = await scene.queue.claim()
    assert job is not None
    return job


async def rendered(scene: Scene, **changes: object) -> Job:
    """A job whose two pictures are on disk and on no message yet."""
    job = await claimed(scene, **changes)
    pictures = [
        StoredImage(job.id, i, i, 64, 64, scene.images.put(f"picture {i}".encode()), scene.images.put(b"latents"))
        for i in range(2)
    ]
    await scene.queue.rendered(job, pictures, seconds=1.0)
    return await scene.queue.get(job.id)


async def unacknowledged(scene: Scene, *, minutes_ago: float) -> Job:
    job = await scene.queue.submit(new_job(), cost=1.0)
    await age(scene, job, minutes_ago)
    return job


async def age(scene: Scene, job: Job, minutes: float) -> None:
    asked = datetime.now(UTC) - timedelta(minutes=minutes)
    async with scene.database.write() as connection:
        await connection.execute(update(jobs).where(jobs.c.id == job.id).values(created_at=asked))


async def test_the_result_replaces_what_the_message_showed(scene: Scene) -> None:
    job = await rendered(scene)
    assert await scene.delivery.show(job.id) is Outcome.SHOWN
    [edit] = scene.stand_in.edits
    assert (edit.message_id, edit.route, edit.text) == (1000 + job.id, "token", "done")
    assert edit.files == {"0.png": b"png of picture 0", "1.png": b"png of picture 1"}
    assert edit.payload["flags"] == 1 << 15
    assert edit.payload["allowed_mentions"] == {"parse": []}
    assert (await scene.queue.get(job.id)).state is JobState.DONE


async def test_a_result_is_shown_once(scene: Scene) -> None:
    job = await rendered(scene)
    assert await scene.delivery.show(job.id) is Outcome.SHOWN
    assert await scene.delivery.show(job.id) is Outcome.OVER
    assert len(scene.stand_in.edits) == 1


async def test_a_failure_is_shown_with_its_sentence(scene: Scene) -> None:
    job = await claimed(scene)
    await scene.queue.fail(job, "The picture is too large.")
    await scene.delivery.show(job.id)
    assert scene.texts(job) == ["failed, The picture is too large."]
    assert (await scene.queue.get(job.id)).shown_at is not None


@pytest.mark.parametrize("trouble", [DROP, Refusal(503), Refusal(429)], ids=["dropped connection", "503", "429"])
async def test_a_final_edit_is_tried_again_through_passing_trouble(scene: Scene, trouble: Answer) -> None:
    job = await rendered(scene)
    scene.stand_in.answers.extend([trouble, trouble])
    assert await scene.delivery.show(job.id) is Outcome.SHOWN
    assert scene.stand_in.attempts == ["token"] * 3
    assert scene.stand_in.edits[0].files["0.png"] == b"png of picture 0"


async def test_trouble_that_lasts_is_left_for_later_and_the_result_is_kept(scene: Scene) -> None:
    job = await rendered(scene)
    scene.stand_in.answers.extend([DROP] * 4)
    assert await scene.delivery.show(job.id) is Outcome.LATER
    assert (await scene.queue.get(job.id)).state is JobState.RENDERED
    assert await scene.queue.unshown() == (job.id,)
    assert await scene.delivery.show(job.id) is Outcome.SHOWN


@pytest.mark.parametrize("refusal", [Refusal(401, 50027), Refusal(404, 10015)], ids=["401", "404"])
async def test_a_dead_token_is_replaced_by_the_bots_own_edit(scene: Scene, refusal: Refusal) -> None:
    job = await rendered(scene)
    scene.stand_in.answers.append(refusal)
    assert await scene.delivery.show(job.id) is Outcome.SHOWN
    assert scene.stand_in.attempts == ["token", "bot"]
    assert scene.stand_in.edits[0].files["1.png"] == b"png of picture 1"


async def test_a_dead_token_is_not_tried_again(scene: Scene) -> None:
    job = await claimed(scene)
    scene.stand_in.tokens.clear()
    await scene.delivery.show(job.id)
    await scene.delivery.show(job.id)
    assert scene.stand_in.attempts == ["token", "bot", "bot"]


async def test_an_old_token_is_not_tried_at_all(scene: Scene) -> None:
    job = await rendered(scene)
    await age(scene, job, minutes=14.1)
    assert await scene.delivery.show(job.id) is Outcome.SHOWN
    assert scene.stand_in.attempts == ["bot"]


async def test_a_deleted_message_cancels_the_job_and_is_not_tried_again(scene: Scene) -> None:
    job = await claimed(scene)
    scene.stand_in.tokens.clear()
    scene.stand_in.messages.clear()
    assert await scene.delivery.show(job.id) is Outcome.OVER
    gone = await scene.queue.get(job.id)
    assert gone.state is JobState.CANCELLED
    assert gone.shown_at is not None
    assert await scene.delivery.show(job.id) is Outcome.OVER
    assert scene.stand_in.attempts == ["token", "bot"]


@pytest.mark.parametrize("code", [10003, 10004, 10008])
async def test_a_result_whose_channel_guild_or_message_is_gone_is_given_up(scene: Scene, code: int) -> None:
    job = await rendered(scene)
    await age(scene, job, minutes=20)
    scene.stand_in.answers.append(Refusal(404, code))
    assert await scene.delivery.show(job.id) is Outcome.OVER
    assert (await scene.queue.get(job.id)).state is JobState.CANCELLED
    assert await scene.queue.unshown() == ()


@pytest.mark.parametrize("code", [50001, 50013])
async def test_a_lost_permission_fails_the_job_after_one_try(scene: Scene, code: int) -> None:
    job = await rendered(scene)
    await age(scene, job, minutes=20)
    scene.stand_in.answers.append(Refusal(403, code))
    assert await scene.delivery.show(job.id) is Outcome.OVER
    assert scene.stand_in.attempts == ["bot"]
    failed = await scene.queue.get(job.id)
    assert (failed.state, failed.error) == (JobState.FAILED, "The bot may no longer write in that channel.")
    assert await scene.queue.unshown() == ()


@pytest.mark.parametrize("refusal", [Refusal(413), Refusal(400, 40005)], ids=["413", "40005"])
async def test_files_that_are_too_large_are_encoded_smaller(scene: Scene, refusal: Refusal) -> None:
    job = await rendered(scene)
    scene.stand_in.rule = lambda edit: refusal if "0.jpeg" not in edit.files else None
    assert await scene.delivery.show(job.id) is Outcome.SHOWN
    assert len(scene.stand_in.attempts) == 3
    assert scene.stand_in.edits[0].files == {"0.jpeg": b"jpeg of picture 0", "1.jpeg": b"jpeg of picture 1"}


async def test_files_that_are_too_large_in_any_form_end_in_a_sentence(scene: Scene) -> None:
    job = await rendered(scene)
    scene.stand_in.rule = lambda edit: Refusal(413) if edit.files else None
    assert await scene.delivery.show(job.id) is Outcome.LATER
    assert await scene.delivery.show(job.id) is Outcome.SHOWN
    assert scene.texts(job) == ["failed, The pictures are too large for this server."]
    assert await scene.queue.unshown() == ()


async def test_a_message_that_discord_never_takes_is_given_up(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    job = await rendered(scene)
    scene.stand_in.rule = lambda edit: Refusal(400, 50035)
    assert await scene.delivery.show(job.id) is Outcome.LATER
    assert await scene.delivery.show(job.id) is Outcome.OVER
    assert len(scene.stand_in.attempts) == 2
    assert (await scene.queue.get(job.id)).state is JobState.FAILED
    assert "50035" in caplog.text


async def test_a_result_that_cannot_be_rendered_ends_in_a_sentence(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    job = await rendered(scene)
    render = scene.delivery._editor._render

    def bug(snapshot: JobSnapshot, images: Mapping[int, bytes], encoding: Encoding) -> Rendered:
        return Rendered(view=images["no such picture"], files=[]) if images else render(snapshot, images, encoding)  # type: ignore[call-overload]

    monkeypatch.setattr(scene.delivery._editor, "_render", bug)
    assert await scene.delivery.show(job.id) is Outcome.LATER
    assert await scene.delivery.show(job.id) is Outcome.SHOWN
    assert scene.texts(job)[-1].startswith("failed, The result could not be put into a message")
    assert "no such picture" in caplog.text


async def test_a_picture_lost_from_disk_ends_in_a_sentence(scene: Scene) -> None:
    job = await rendered(scene)
    for image in await scene.queue.images(job.id):
        scene.images.delete(image.sha256)
    await scene.delivery.show(job.id)
    await scene.delivery.show(job.id)
    assert (await scene.queue.get(job.id)).state is JobState.FAILED
    assert scene.texts(job)[-1].startswith("failed, ")


async def test_no_edit_overtakes_the_ack(scene: Scene) -> None:
    new = new_job()
    job = await scene.service.submit(new)
    showing = asyncio.create_task(scene.delivery.show(job.id))
    done, _ = await asyncio.wait([showing], timeout=0.1)
    assert not done
    assert scene.stand_in.attempts == []
    scene.stand_in.acknowledge(new.interaction_token, 1000 + job.id)
    await scene.service.attach_message(job.id, 1000 + job.id)
    assert await asyncio.wait_for(showing, 5) is Outcome.SHOWN


async def test_a_job_whose_message_id_was_lost_in_a_crash_learns_it_from_the_first_edit(scene: Scene) -> None:
    job = await unacknowledged(scene, minutes_ago=1)
    scene.stand_in.acknowledge(job.interaction_token, 4321)
    assert await scene.delivery.show(job.id) is Outcome.SHOWN
    assert (await scene.queue.get(job.id)).message_id == 4321


async def test_a_job_that_was_never_acknowledged_is_cancelled(scene: Scene) -> None:
    job = await unacknowledged(scene, minutes_ago=1)
    assert await scene.delivery.show(job.id) is Outcome.OVER
    assert (await scene.queue.get(job.id)).state is JobState.CANCELLED


async def test_progress_is_one_edit_at_a_time_and_the_latest_wins(scene: Scene) -> None:
    job = await claimed(scene)
    scene.stand_in.gate.clear()
    async with scene.delivery.follow(job.id) as message:
        scene.board.post(job.id, Progress(1, 9))
        message.changed()
        await scene.stand_in.until(lambda: len(scene.stand_in.attempts) == 1)
        for step in range(2, 9):
            scene.board.post(job.id, Progress(step, 9))
            message.changed()
        assert len(scene.stand_in.attempts) == 1
        scene.stand_in.gate.set()
        await scene.stand_in.until(lambda: len(scene.stand_in.edits) == 2)
    assert scene.texts(job) == ["running, step 1 of 9", "running, step 8 of 9"]


async def test_progress_keeps_its_distance(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    async def pause(self: delivery.LiveMessage, seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(delivery.LiveMessage, "pause", pause)
    job = await claimed(scene)
    async with scene.delivery.follow(job.id) as message:
        message.changed()
        await scene.stand_in.until(lambda: len(scene.stand_in.edits) == 1)
        message.changed()
        await scene.stand_in.until(lambda: len(scene.stand_in.edits) == 2)
    assert pauses[0] >= 0.01


async def test_leaving_waits_for_the_edit_in_flight_so_that_the_result_comes_last(scene: Scene) -> None:
    job = await claimed(scene)
    scene.stand_in.gate.clear()

    async def draw() -> None:
        async with scene.delivery.follow(job.id) as message:
            message.changed()
            await scene.stand_in.until(lambda: len(scene.stand_in.attempts) == 1)
        await scene.queue.fail(job, "No.")
        await scene.delivery.show(job.id)

    drawing = asyncio.create_task(draw())
    await scene.stand_in.until(lambda: len(scene.stand_in.attempts) == 1)
    done, _ = await asyncio.wait([drawing], timeout=0.05)
    assert not done
    scene.stand_in.gate.set()
    await asyncio.wait_for(drawing, 5)
    assert scene.texts(job) == ["running", "failed, No."]


async def test_a_progress_edit_that_fails_is_not_tried_again(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "TROUBLE_PAUSES", (0.01, 0.01))
    job = await claimed(scene)
    scene.stand_in.answers.append(DROP)
    async with scene.delivery.follow(job.id) as message:
        message.changed()
        await scene.stand_in.until(lambda: len(scene.stand_in.attempts) == 1)
        scene.board.post(job.id, Progress(5, 9))
        message.changed()
        await scene.stand_in.until(lambda: len(scene.stand_in.edits) == 1)
    assert scene.texts(job) == ["running, step 5 of 9"]
    assert not message.lost


async def test_the_followed_message_says_when_it_is_lost(scene: Scene) -> None:
    job = await claimed(scene)
    scene.stand_in.tokens.clear()
    scene.stand_in.messages.clear()
    async with scene.delivery.follow(job.id) as message:
        message.changed()
        await scene.stand_in.until(lambda: len(scene.stand_in.attempts) == 2)
    assert message.lost


async def test_no_log_holds_an_interaction_token(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    job = await rendered(scene)
    token = job.interaction_token
    scene.stand_in.answers.extend([DROP, Refusal(503), Refusal(404, 10015)])
    await scene.delivery.show(job.id)
    logged = [record.getMessage() for record in caplog.records]
    assert any("/webhooks/77/<hidden>/messages/@original" in line for line in logged)
    assert not [line for line in logged if token in line]


async def test_an_edit_that_waited_its_turn_shows_what_is_true_by_then(scene: Scene) -> None:
    job, other = await claimed(scene, user_id=1), await claimed(scene, user_id=2)
    scene.stand_in.gate.clear()
    showing = [asyncio.create_task(scene.delivery.show(job_id)) for job_id in (job.id, job.id, other.id)]
    await scene.stand_in.until(lambda: len(scene.stand_in.attempts) == 2)  # one of each job
    assert await asyncio.wait(showing, timeout=0.1) == (set(), set(showing))
    scene.board.post(job.id, Progress(5, 9))
    scene.stand_in.gate.set()
    await asyncio.wait_for(asyncio.gather(*showing), 5)
    assert scene.texts(job) == ["running", "running, step 5 of 9"]
    assert scene.texts(other) == ["running"]


async def test_a_message_edited_too_often_is_left_for_later_without_asking_again(scene: Scene) -> None:
    job = await rendered(scene)
    scene.stand_in.answers.append(Refusal(400, 30046))
    assert await scene.delivery.show(job.id) is Outcome.LATER
    assert len(scene.stand_in.attempts) == 1
    assert await scene.queue.unshown() == (job.id,)
    assert await scene.delivery.show(job.id) is Outcome.SHOWN


async def test_an_hour_old_message_keeps_its_few_edits_for_the_end(scene: Scene) -> None:
    job = await claimed(scene)
    await age(scene, job, minutes=61)
    assert await scene.delivery.show(job.id) is Outcome.SHOWN
    assert scene.stand_in.attempts == []
    await scene.queue.fail(job, "No.")
    assert await scene.delivery.show(job.id) is Outcome.SHOWN
    assert scene.texts(job) == ["failed, No."]


async def test_files_over_the_servers_limit_are_not_even_sent(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discord.utils, "DEFAULT_FILE_SIZE_LIMIT_BYTES", len(b"png of picture 0") - 1)
    job = await rendered(scene)
    assert await scene.delivery.show(job.id) is Outcome.SHOWN
    assert len(scene.stand_in.attempts) == 1
    assert list(scene.stand_in.edits[0].files) == ["0.small", "1.small"]


async def test_the_interactions_own_limit_counts_as_long_as_its_token_does(scene: Scene) -> None:
    job = await rendered(scene, file_limit=len(b"png of picture 0") - 1)
    assert await scene.delivery.show(job.id) is Outcome.SHOWN
    assert list(scene.stand_in.edits[0].files) == ["0.small", "1.small"]


async def test_a_limit_that_is_met_changes_nothing(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discord.utils, "DEFAULT_FILE_SIZE_LIMIT_BYTES", len(b"png of picture 0"))
    job = await rendered(scene)
    assert await scene.delivery.show(job.id) is Outcome.SHOWN
    assert scene.stand_in.edits[0].files == {"0.png": b"png of picture 0", "1.png": b"png of picture 1"}


async def pauses_of(scene: Scene, monkeypatch: pytest.MonkeyPatch, edits: int) -> list[float]:
    """How long progress waits after each of so many edits."""
    pauses: asyncio.Queue[float] = asyncio.Queue()

    async def pause(self: delivery.LiveMessage, seconds: float) -> None:
        pauses.put_nowait(seconds)

    monkeypatch.setattr(delivery.LiveMessage, "pause", pause)
    job = await claimed(scene)
    found = []
    async with scene.delivery.follow(job.id) as message:
        for _ in range(edits):
            message.changed()
            found.append(await asyncio.wait_for(pauses.get(), 5))
    return found


async def test_progress_gives_a_slow_discord_more_time(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.stand_in.delay = 0.1
    [pause] = await pauses_of(scene, monkeypatch, 1)
    assert pause >= 0.3


async def test_progress_holds_back_while_discord_is_in_trouble(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.stand_in.answers.extend([DROP, DROP, DROP, DROP, None])
    assert (await pauses_of(scene, monkeypatch, 4)) == [5.0, 10.0, 20.0, 30.0]


async def test_a_preview_is_shown_only_once_it_was_screened(scene: Scene) -> None:
    job = await claimed(scene)
    scene.board.post(job.id, Progress(1, 3, b"sheet"))
    assert (await scene.board.snapshot(job.id)).progress == Progress(1, 3)
    shown: list[Progress | None] = []

    def look(snapshot: JobSnapshot, images: Mapping[int, bytes], encoding: Encoding) -> Rendered:
        shown.append(snapshot.progress)
        return render(snapshot, images, encoding)

    watched = Delivery(
        scene.client, scene.queue, scene.board, scene.images, look, crowd=scene.crowd, progress_interval=0
    )
    async with watched.follow(job.id) as message:
        for step, preview in ((1, b"sheet"), (2, None), (3, b"next")):
            scene.board.post(job.id, Progress(step, 3, preview))
            message.changed()
            await scene.stand_in.until(lambda: len(scene.stand_in.attempts) == step)  # noqa: B023
    assert shown == [
        Progress(1, 3, b"screened sheet"),
        Progress(2, 3, b"screened sheet"),
        Progress(3, 3, b"screened next"),
    ]


async def test_a_lost_picture_keeps_no_other_from_being_hidden(scene: Scene) -> None:
    job = await rendered(scene)
    await scene.delivery.show(job.id)
    first, second = await scene.queue.images(job.id)
    scene.images.delete(second.sha256)
    async with scene.database.write() as connection:
        await set_showing(connection, job.id, first.index, Showing.REMOVED)
    assert await scene.delivery.show(job.id) is Outcome.SHOWN
    assert scene.stand_in.edits[-1].files == {}
    assert await scene.queue.unshown() == ()


async def test_a_picture_that_is_removed_while_it_is_being_shown_does_not_stay(scene: Scene) -> None:
    job = await rendered(scene)
    scene.stand_in.gate.clear()
    showing = asyncio.create_task(scene.delivery.show(job.id))
    await scene.stand_in.until(lambda: len(scene.stand_in.attempts) == 1)
    async with scene.database.write() as connection:
        await set_showing(connection, job.id, 0, Showing.REMOVED)
    scene.stand_in.gate.set()
    assert await showing is Outcome.SHOWN
    assert list(scene.stand_in.edits[-1].files) == ["0.png", "1.png"]

    assert await scene.queue.unshown() == (job.id,)
    assert await scene.delivery.show(job.id) is Outcome.SHOWN
    assert list(scene.stand_in.edits[-1].files) == ["1.png"]
    assert await scene.queue.unshown() == ()


async def test_a_message_that_discord_does_not_take_without_a_removed_picture_goes_altogether(scene: Scene) -> None:
    job = await rendered(scene)
    assert await scene.delivery.show(job.id) is Outcome.SHOWN
    async with scene.database.write() as connection:
        await set_showing(connection, job.id, 0, Showing.REMOVED)
    scene.stand_in.rule = lambda edit: Refusal(400, 50035)
    assert await scene.delivery.show(job.id) is Outcome.OVER
    assert job.message_id not in scene.stand_in.messages
