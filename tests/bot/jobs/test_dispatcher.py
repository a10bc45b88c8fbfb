"""From a claim to a message that shows the pictures, and back when something breaks on the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from bot.errors import NotJudged
from bot.jobs import dispatcher
from bot.jobs.decided import set_showing
from bot.jobs.judgement import Verdict
from bot.jobs.model import JobKind, JobState, Showing, StoredImage
from bot.jobs.sweeping import sweep
from bot.moderation.cases import CaseKind, CaseState
from bot.storage.images import ImageStore
from bot.storage.tables import cases
from t2i.api import Cancelled, EngineCrashed, EngineError, Progress, RequestEvent

from .conftest import Scene, new_job
from .discord_stand_in import DROP, Refusal
from .scripted_engine import Run, crash, draw, fail, hold, latents, picture


@pytest.fixture
async def working(scene: Scene) -> AsyncIterator[Scene]:
    await scene.dispatcher.start()
    yield scene


def every(*scripts: Any) -> Any:
    """The first attempt plays the first script, and so on; the last one stays."""
    left = list(scripts)

    def play(run: Run) -> AsyncGenerator[RequestEvent, None]:
        script = left.pop(0) if len(left) > 1 else left[0]
        played: AsyncGenerator[RequestEvent, None] = script(run)
        return played

    return play


async def test_a_job_ends_as_one_message_with_its_pictures(working: Scene) -> None:
    job = await working.settled(await working.imagine("a red apple", images=2, seed=7))
    assert (job.state, job.attempt, job.seconds) == (JobState.DONE, 1, 1.5)
    [run] = working.engine.runs
    last = working.stand_in.edits[-1]
    assert last.text == "done"
    assert last.files == {f"{i}.png": b"png of " + picture(run, i) for i in range(2)}
    stored = await working.service.images(job.id)
    assert [image.seed for image in stored] == [7, 8]
    assert [working.images.read(image.sha256) for image in stored] == [picture(run, i) for i in range(2)]
    assert {edit.message_id for edit in working.stand_in.edits} == {job.message_id}


async def test_the_message_follows_the_steps(working: Scene) -> None:
    working.engine.script = hold
    job = await working.imagine()
    run = await working.engine.running(job.options.prompt)
    await working.stand_in.until(lambda: "running, step 1 of 3" in working.texts(job))
    snapshot = await working.service.snapshot(job.id)
    assert snapshot.progress is not None and snapshot.progress.fraction == pytest.approx(1 / 3)
    run.proceed.set()
    await working.settled(job)
    assert working.texts(job)[-1] == "done"
    assert (await working.service.snapshot(job.id)).progress is None


async def test_the_engine_gets_no_more_than_it_has_room_for(working: Scene) -> None:
    working.engine.script = hold
    jobs = [await working.imagine(f"job {n}", user_id=n) for n in range(5)]
    for n in range(5):
        run = await working.engine.running(f"job {n}")
        run.proceed.set()
        await working.settled(jobs[n])
    assert working.engine.most_in_flight == working.engine.capacity == 2


async def test_waiting_messages_say_how_many_are_still_ahead(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatcher, "PLACES_PAUSE", 0.01)
    scene.engine.capacity = 1
    scene.engine.script = hold
    await scene.dispatcher.start()
    await scene.imagine("running", user_id=1)
    run = await scene.engine.running("running")
    first, second = [await scene.imagine("waiting", user_id=user) for user in (2, 3)]
    snapshots = [await scene.service.snapshot(job.id) for job in (first, second)]
    assert [snapshot.position for snapshot in snapshots] == [0, 1]
    run.proceed.set()
    await scene.stand_in.until(lambda: scene.texts(second) == ["queued, 0 ahead"])


async def test_nothing_is_claimed_while_the_engine_is_down(scene: Scene) -> None:
    scene.engine.ready.clear()
    await scene.dispatcher.start()
    job = await scene.imagine()
    assert (await scene.queue.get(job.id)).attempt == 0
    scene.engine.ready.set()
    assert (await scene.settled(job)).state is JobState.DONE


async def test_what_the_engine_offers_is_known_afterwards(scene: Scene) -> None:
    await scene.checkpoints.record([])
    await scene.dispatcher.start()
    await scene.settled(await scene.imagine())
    assert [info.name for info in await scene.checkpoints.all()] == ["embedded"]


async def test_an_engine_crash_is_survived_by_the_job_and_its_message(working: Scene) -> None:
    working.engine.script = every(crash, draw)
    job = await working.settled(await working.imagine(images=1))
    assert (job.state, job.attempt, job.crashes) == (JobState.DONE, 2, 1)
    assert {edit.message_id for edit in working.stand_in.edits} == {job.message_id}
    assert working.texts(job).count("done") == 1


async def test_both_attempts_draw_from_the_same_seed(working: Scene) -> None:
    working.engine.script = every(crash, draw)
    job = await working.settled(await working.imagine())
    assert [run.request.seed for run in working.engine.runs] == [job.seed, job.seed]


async def test_a_job_that_crashes_the_engine_three_times_fails_with_a_sentence(working: Scene) -> None:
    working.engine.script = crash
    job = await working.settled(await working.imagine())
    assert (job.state, job.attempt) == (JobState.FAILED, 3)
    assert working.texts(job)[-1].startswith("failed, The image engine stopped 3 times")


async def test_the_last_chance_is_taken_alone(working: Scene) -> None:
    alone: list[bool] = []

    async def poison(run: Run) -> AsyncGenerator[RequestEvent, None]:
        alone.append(len(working.engine.in_flight) == 1)
        yield await anext(draw(run))
        raise EngineCrashed

    def script(run: Run) -> AsyncGenerator[RequestEvent, None]:
        if run.prompt == "poison":
            return poison(run)
        return hold(run) if run.prompt == "patient" else draw(run)

    working.engine.script = script
    patient = await working.imagine("patient", user_id=1)
    waiting = await working.engine.running("patient")
    bad = await working.imagine("poison", user_id=2)
    await working.engine.until(lambda: len(alone) == 2)
    others = [await working.imagine("innocent", user_id=3) for _ in range(2)]
    assert (await working.queue.get(bad.id)).state is not JobState.FAILED
    waiting.proceed.set()
    assert (await working.settled(bad)).state is JobState.FAILED
    assert alone == [False, False, True]
    for job in (patient, *others):
        assert ((await working.settled(job)).state, job.crashes) == (JobState.DONE, 0)


async def test_a_failure_of_the_engine_reaches_the_user_in_its_own_words(working: Scene) -> None:
    working.engine.script = fail
    job = await working.settled(await working.imagine())
    assert job.state is JobState.FAILED
    assert working.texts(job)[-1] == "failed, The picture is too large for this device."


async def test_an_engine_that_takes_no_work_now_costs_the_job_nothing(working: Scene) -> None:
    async def busy(run: Run) -> AsyncGenerator[RequestEvent, None]:
        raise EngineError("The image engine is shutting down.", code="unavailable", retryable=True)
        yield

    working.engine.script = every(busy, draw)
    job = await working.settled(await working.imagine())
    assert (job.state, job.crashes) == (JobState.DONE, 0)


@pytest.mark.parametrize("ending", ["cancelled", "silence"])
async def test_a_stream_that_ends_without_a_result_counts_as_a_crash(working: Scene, ending: str) -> None:
    async def odd(run: Run) -> AsyncGenerator[RequestEvent, None]:
        if ending == "cancelled":
            yield Cancelled(request_id=run.request_id)

    working.engine.script = every(odd, draw)
    job = await working.settled(await working.imagine())
    assert (job.state, job.crashes) == (JobState.DONE, 1)


async def test_a_bug_fails_the_job_without_showing_a_traceback(working: Scene) -> None:
    async def bug(run: Run) -> AsyncGenerator[RequestEvent, None]:
        raise ZeroDivisionError("division by zero")
        yield

    working.engine.script = bug
    job = await working.settled(await working.imagine())
    assert working.texts(job)[-1].startswith("failed, Something went wrong inside the bot")


async def test_cancelling_a_running_job_frees_the_engine_and_says_so(working: Scene) -> None:
    working.engine.script = hold
    job = await working.imagine()
    await working.engine.running(job.options.prompt)
    assert await working.service.cancel(job.id)
    await working.engine.until(lambda: working.engine.slots() == working.engine.capacity)
    assert working.engine.closed_early == [f"{job.id}.1"]
    assert (await working.settled(job)).state is JobState.CANCELLED
    assert working.texts(job)[-1] == "cancelled"
    assert not await working.service.cancel(job.id)


async def test_a_cancelled_waiting_job_is_never_drawn(scene: Scene) -> None:
    job = await scene.imagine("unwanted", user_id=1)
    assert await scene.service.cancel(job.id)
    await scene.dispatcher.start()
    await scene.settled(await scene.imagine("wanted", user_id=2))
    await scene.settled(job)
    assert [run.prompt for run in scene.engine.runs] == ["wanted"]


async def test_nothing_more_is_drawn_for_a_message_that_was_deleted(working: Scene) -> None:
    async def endless(run: Run) -> AsyncGenerator[RequestEvent, None]:
        yield await anext(draw(run))
        while True:
            await asyncio.sleep(0.001)
            yield Progress(request_id=run.request_id, step=1, steps=3)

    working.engine.script = endless
    job = await working.imagine()
    await working.stand_in.until(lambda: len(working.texts(job)) >= 2)
    working.stand_in.tokens.clear()
    working.stand_in.messages.clear()
    await working.engine.until(lambda: working.engine.closed_early == [f"{job.id}.1"])
    assert (await working.settled(job)).state is JobState.CANCELLED
    assert await working.queue.images(job.id) == ()


async def test_a_variation_starts_from_its_parents_latents(working: Scene) -> None:
    parent = await working.settled(await working.imagine(images=4, seed=7))
    child = await working.imagine(kind=JobKind.VARIATION, parent_id=parent.id, parent_index=2, strength=0.6)
    await working.settled(child)
    first, second = working.engine.runs
    assert second.request.latents == (latents(first, 2),)
    assert second.request.strength == 0.6
    assert first.request.latents is None


async def test_grids_are_drawn_small_and_upscales_as_large_as_the_checkpoint_can(working: Scene) -> None:
    parent = await working.settled(await working.imagine(images=4))
    upscale = {"kind": JobKind.UPSCALE, "parent_id": parent.id, "parent_index": 0, "strength": 0.0, "images": 1}
    await working.settled(await working.imagine(**upscale))
    await working.settled(await working.imagine(size=128))
    assert [run.request.width for run in working.engine.runs] == [64, 256, 128]
    assert [run.request.height for run in working.engine.runs] == [64, 256, 128]


async def test_a_variation_of_a_deleted_picture_fails_with_a_sentence(working: Scene) -> None:
    parent = await working.settled(await working.imagine(images=1))
    await working.service.delete_images(parent.id)
    child = await working.imagine(kind=JobKind.UPSCALE, parent_id=parent.id, parent_index=0, strength=0.0)
    assert (await working.settled(child)).error == "The picture this starts from is gone."
    assert len(working.engine.runs) == 1


async def test_pictures_are_on_disk_before_the_row_says_so(working: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    readable: list[bool] = []
    rendered = working.queue.rendered

    async def check(job: Any, images: list[StoredImage], **how: Any) -> bool:
        for image in images:
            readable.append(working.images.read(image.sha256).startswith(b"png"))
            readable.append(working.images.read(image.latents_sha256).startswith(b"latents"))
        return await rendered(job, images, **how)

    monkeypatch.setattr(working.queue, "rendered", check)
    await working.settled(await working.imagine(images=2))
    assert readable == [True] * 4


async def test_a_disk_that_refuses_the_pictures_fails_the_job_with_a_sentence(
    working: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: ImageStore, data: bytes) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ImageStore, "put", full)
    job = await working.settled(await working.imagine())
    assert job.state is JobState.FAILED
    assert job.error == "The pictures could not be saved; the bot's operator has to look."


async def test_a_result_that_comes_after_the_cancel_leaves_no_files(
    working: Scene, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    rendered = working.queue.rendered

    async def cancelled_just_before(job: Any, images: list[StoredImage], **how: Any) -> bool:
        await working.queue.cancel(job.id)
        return await rendered(job, images, **how)

    monkeypatch.setattr(working.queue, "rendered", cancelled_just_before)
    job = await working.settled(await working.imagine())
    assert job.state is JobState.CANCELLED
    assert [path for path in (tmp_path / "images").rglob("*") if path.is_file()] == []


async def test_after_a_crash_of_the_bot_jobs_are_drawn_and_results_shown_without_drawing_again(scene: Scene) -> None:
    drawn = await scene.imagine("drawn", user_id=1, images=1)
    claimed = await scene.queue.claim()
    assert claimed is not None
    run = Run("", claimed.options.to_request(), "embedded", asyncio.Event())
    sha256, latents_sha256 = scene.images.put(picture(run, 0)), scene.images.put(b"latents")
    await scene.queue.rendered(claimed, [StoredImage(claimed.id, 0, 7, 64, 64, sha256, latents_sha256)], seconds=1.0)
    interrupted = await scene.imagine("interrupted", user_id=2)
    await scene.queue.claim()

    await scene.dispatcher.start()
    assert (await scene.settled(drawn)).attempt == 1
    assert (await scene.settled(interrupted)).attempt == 2
    assert [run.prompt for run in scene.engine.runs] == ["interrupted"]
    assert scene.texts(drawn) == ["done"]


async def test_a_result_that_discord_did_not_take_is_shown_when_it_does(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "REDELIVERY_PAUSES", (0.01, 0.02))
    await scene.dispatcher.start()
    outage = True
    scene.stand_in.rule = lambda edit: (DROP, Refusal(503))[len(scene.stand_in.attempts) % 2] if outage else None
    job = await scene.imagine()
    await scene.in_state(job, JobState.RENDERED)
    await scene.stand_in.until(lambda: len(scene.stand_in.attempts) > 10)
    outage = False
    assert (await scene.settled(job)).state is JobState.DONE
    assert scene.texts(job)[-1] == "done"


async def test_results_that_wait_are_shown_as_soon_as_discord_takes_another(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "REDELIVERY_PAUSES", (300.0, 300.0))
    await scene.dispatcher.start()
    outage = True
    scene.stand_in.rule = lambda edit: DROP if outage and edit.text == "done" else None
    early = await scene.imagine("early")
    await scene.stand_in.until(lambda: len(scene.stand_in.attempts) - len(scene.stand_in.edits) == 4)
    outage = False
    assert (await scene.settled(await scene.imagine("late"))).state is JobState.DONE
    assert (await scene.settled(early)).state is JobState.DONE


async def test_stopping_lets_a_job_finish_that_is_nearly_there(working: Scene) -> None:
    working.engine.script = hold
    job = await working.imagine()
    run = await working.engine.running(job.options.prompt)
    stopping = asyncio.create_task(working.dispatcher.stop(grace=10))
    await asyncio.sleep(0)
    run.proceed.set()
    await asyncio.wait_for(stopping, 10)
    assert (await working.queue.get(job.id)).state is JobState.DONE


async def test_stopping_gives_the_rest_back_uncharged_and_claims_nothing_more(working: Scene) -> None:
    working.engine.script = hold
    running = await working.imagine("running", user_id=1)
    await working.engine.running("running")
    waiting = [await working.imagine("waiting", user_id=user) for user in (2, 3)]
    await working.dispatcher.stop(grace=0.05)
    for job in (running, *waiting):
        now = await working.queue.get(job.id)
        assert (now.state, now.crashes) == (JobState.QUEUED, 0)
    assert not working.engine.in_flight


async def test_a_dispatcher_started_again_goes_on_where_the_last_one_stopped(working: Scene) -> None:
    working.engine.script = every(hold, draw)
    job = await working.imagine()
    await working.engine.running(job.options.prompt)
    await working.dispatcher.stop(grace=0)
    again = Scene(working.database, working.images, working.client, working.stand_in)
    await again.dispatcher.start()
    done = await again.settled(job)
    await again.dispatcher.stop()
    assert (done.state, done.attempt) == (JobState.DONE, 2)


async def test_forty_presses_at_once_all_get_their_pictures(working: Scene) -> None:
    working.engine.capacity = 8
    jobs = await asyncio.gather(*(working.imagine(f"job {n}", user_id=n % 7, images=1) for n in range(40)))
    for job in jobs:
        assert (await working.settled(job)).state is JobState.DONE
    shown = [edit for edit in working.stand_in.edits if edit.text == "done"]
    assert sorted(edit.message_id for edit in shown) == sorted(1000 + job.id for job in jobs)
    by_prompt = {run.prompt: run for run in working.engine.runs}
    for edit in shown:
        run = by_prompt[(await working.queue.get(edit.message_id - 1000)).options.prompt]
        assert edit.files == {"0.png": b"png of " + picture(run, 0)}


async def test_a_job_asked_for_twice_by_discord_is_drawn_once(working: Scene) -> None:
    new = new_job()
    working.stand_in.acknowledge(new.interaction_token, 4000)
    first, second = await working.service.submit(new), await working.service.submit(new)
    assert first.id == second.id
    await working.service.attach_message(first.id, 4000)
    await working.settled(first)
    assert len(working.engine.runs) == 1


def refusing(times: int, write: Any) -> Any:
    """The write, once the database has refused it so often."""
    left = [times]

    async def refuse(*arguments: Any, **named: Any) -> Any:
        if left[0]:
            left[0] -= 1
            raise OperationalError("UPDATE jobs", {}, Exception("database or disk is full"))
        return await write(*arguments, **named)

    return refuse


@pytest.mark.parametrize("ending", ["rendered", "failed", "crashed"])
async def test_an_ending_that_the_database_refuses_is_written_once_it_can_be(
    working: Scene, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    monkeypatch.setattr(dispatcher, "WRITE_PAUSES", (0.01,))
    for name in ("rendered", "fail", "crashed"):
        monkeypatch.setattr(working.queue, name, refusing(2, getattr(working.queue, name)))
    working.engine.script = {"rendered": draw, "failed": fail, "crashed": every(crash, draw)}[ending]
    job = await working.settled(await working.imagine(images=1))
    assert job.state is (JobState.FAILED if ending == "failed" else JobState.DONE)
    assert job.crashes == (ending == "crashed")
    assert len(working.engine.runs) == (2 if ending == "crashed" else 1)


async def test_a_job_whose_parent_cannot_be_read_now_waits_again(
    working: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = await working.settled(await working.imagine(images=1))
    monkeypatch.setattr(working.queue, "images", refusing(1, working.queue.images))
    child = await working.imagine(kind=JobKind.UPSCALE, parent_id=parent.id, parent_index=0, strength=0.0, images=1)
    assert ((await working.settled(child)).state, child.crashes) == (JobState.DONE, 0)


async def test_a_claim_whose_answer_was_lost_is_found_again_and_spares_what_is_drawn(
    working: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "POLL", 0.01)
    working.engine.script = lambda run: hold(run) if run.prompt == "drawn" else draw(run)
    drawn = await working.imagine("drawn", user_id=1)
    run = await working.engine.running("drawn")
    claim, lost = working.queue.claim, []

    async def lose_the_answer(**named: Any) -> Any:
        job = await claim(**named)
        if job is not None and not lost:
            lost.append(job)
            raise OperationalError("COMMIT", {}, Exception("server closed the connection unexpectedly"))
        return job

    monkeypatch.setattr(working.queue, "claim", lose_the_answer)
    job = await working.settled(await working.imagine("claimed", user_id=2))
    run.proceed.set()
    assert (job.state, job.attempt) == (JobState.DONE, 2)
    assert (await working.settled(drawn)).attempt == 1


async def test_a_start_sweeps_what_a_kill_left_in_the_picture_folder(scene: Scene, tmp_path: Any) -> None:
    await scene.dispatcher.start()
    job = await scene.settled(await scene.imagine(images=1))
    await scene.dispatcher.stop()
    kept = sorted(scene.images.names())
    stray = scene.images.put(b"drawn, and killed before the row said so")
    draft = tmp_path / "images" / stray[:2] / ".0123.tmp"
    draft.write_bytes(b"half a pic")

    again = Scene(scene.database, scene.images, scene.client, scene.stand_in)
    await again.dispatcher.start()
    await again.settled(await again.imagine(images=1))
    await again.dispatcher.stop()
    assert not draft.exists()
    assert stray not in again.images.names()
    assert set(kept) <= set(again.images.names())
    [image] = await again.queue.images(job.id)
    assert again.images.read(image.sha256)


async def test_a_picture_folder_of_which_the_database_knows_nothing_is_left_alone(scene: Scene) -> None:
    names = [scene.images.put(f"of another database {n}".encode()) for n in range(3)]
    await sweep(scene.queue, scene.images)
    assert sorted(scene.images.names()) == sorted(names)


async def test_a_verdict_is_in_the_row_with_its_case_and_the_message_shows_only_what_may_be_seen(
    working: Scene,
) -> None:
    verdicts = {
        0: Verdict(Showing.SPOILER, 0.6, "0" * 16),
        1: Verdict(Showing.HELD, 0.9, "1" * 16, case="It may be explicit."),
        2: Verdict(Showing.REMOVED, 0.1, "2" * 16, note="It looks like another.", case="Like a removed one."),
        3: Verdict(Showing.REMOVED, 1.0, "3" * 16, note="Too explicit."),
    }
    working.judge.verdict = lambda png: verdicts[int(png[-1:])]
    job = await working.settled(await working.imagine(images=4, seed=7))
    assert job.state is JobState.DONE
    assert list(working.stand_in.edits[-1].files) == ["0.png"]
    for image in await working.queue.images(job.id):
        verdict = verdicts[image.index]
        kept = (verdict.showing, verdict.score, verdict.phash, verdict.note)
        assert (image.showing, image.score, image.phash, image.note) == kept
    async with working.database.read() as connection:
        opened = (await connection.execute(select(cases).order_by(cases.c.index))).mappings().all()
    assert [(case["kind"], case["index"], case["reason"], case["score"]) for case in opened] == [
        (CaseKind.PICTURE, 1, "It may be explicit.", 0.9),
        (CaseKind.PICTURE, 2, "Like a removed one.", 0.1),
    ]
    assert {(case["job_id"], case["user_id"], case["guild_id"], case["state"]) for case in opened} == {
        (job.id, 1, 900, CaseState.OPEN)
    }

    async with working.database.write() as connection:
        await set_showing(connection, job.id, 1, Showing.PLAIN)
        await set_showing(connection, job.id, 0, Showing.REMOVED)
    working.dispatcher.deliver(job.id)
    await working.settled(job)
    assert list(working.stand_in.edits[-1].files) == ["1.png"], "a decision changes the message, however old"


async def test_pictures_that_nothing_judged_are_not_kept_and_the_job_fails_with_a_sentence(
    working: Scene, tmp_path: Path
) -> None:
    def refuse(png: bytes) -> Verdict:
        raise NotJudged("Nothing judged them.")

    working.judge.verdict = refuse
    job = await working.settled(await working.imagine())
    assert (job.state, job.error) == (JobState.FAILED, "Nothing judged them.")
    assert [path for path in (tmp_path / "images").rglob("*") if path.is_file()] == []
    assert working.stand_in.edits[-1].files == {}


async def test_nothing_is_made_of_a_picture_that_is_kept_back(working: Scene) -> None:
    working.judge.verdict = lambda png: Verdict(Showing.HELD if png.endswith(b"1") else Showing.PLAIN)
    parent = await working.settled(await working.imagine(images=2))
    varied = {
        index: await working.settled(
            await working.imagine(kind=JobKind.VARIATION, parent_id=parent.id, parent_index=index)
        )
        for index in range(2)
    }
    assert varied[0].state is JobState.DONE
    assert (varied[1].state, varied[1].error) == (JobState.FAILED, "The picture this starts from is gone.")
