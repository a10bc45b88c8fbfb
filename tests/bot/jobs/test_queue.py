"""A job's states, one step at a time."""

from __future__ import annotations

import asyncio

import pytest

from bot.errors import JobNotFound, QueueFull
from bot.jobs.claiming import WINDOW
from bot.jobs.decided import set_showing
from bot.jobs.model import Job, JobState, NewJob, Showing, StoredImage
from bot.jobs.queue import MAX_CRASHES, JobQueue
from bot.storage.session import Database
from tests.bot.databases import EITHER_DATABASE

from .conftest import WatchedDatabase, new_job

pytestmark = EITHER_DATABASE


async def submit(queue: JobQueue, new: NewJob | None = None, *, cost: float = 1.0) -> Job:
    return await queue.submit(new or new_job(), cost=cost)


async def claim(queue: JobQueue, *loaded: str) -> Job:
    job = await queue.claim(loaded=loaded)
    assert job is not None
    return job


def stored(job: Job, index: int = 0, sha256: str = "a" * 64, latents: str = "b" * 64) -> StoredImage:
    return StoredImage(job.id, index, 7, 64, 64, sha256, latents)


async def test_a_job_keeps_everything_it_was_asked_with(queue: JobQueue) -> None:
    new = new_job("a blue cube", user_id=5, steps=12, guidance_scale=2.5, channel_id=8, guild_id=None)
    job = await queue.get((await submit(queue, new)).id)
    assert (job.state, job.attempt, job.crashes) == (JobState.QUEUED, 0, 0)
    assert job.options == new.options
    assert (job.user_id, job.channel_id, job.guild_id) == (5, 8, None)
    assert (job.kind, job.checkpoint, job.interaction_token) == (new.kind, "embedded", new.interaction_token)


async def test_the_same_interaction_twice_is_one_job(queue: JobQueue) -> None:
    new = new_job()
    first, second = await asyncio.gather(submit(queue, new), submit(queue, new))
    assert first == second
    assert await queue.claim() is not None
    assert await queue.claim() is None


async def test_a_job_without_a_seed_gets_one_that_stays(queue: JobQueue) -> None:
    seeds = {(await submit(queue)).seed for _ in range(5)}
    assert len(seeds) == 5
    first = await claim(queue)
    await queue.requeue(first)
    assert (await claim(queue)).seed == first.seed


async def test_a_seed_that_was_asked_for_is_used(queue: JobQueue) -> None:
    assert (await submit(queue, new_job(seed=0))).seed == 0


async def test_a_token_is_in_no_text_form_of_a_job(queue: JobQueue) -> None:
    new = new_job(interaction_token="very-secret")
    job = await submit(queue, new)
    assert "very-secret" not in f"{new!r} {job!r}"


async def test_one_person_may_have_only_so_many_jobs_waiting(database: Database) -> None:
    queue = JobQueue(database, queued_per_user=2)
    await submit(queue, new_job(user_id=1))
    await submit(queue, new_job(user_id=1))
    with pytest.raises(QueueFull, match="2 jobs waiting"):
        await submit(queue, new_job(user_id=1))
    await submit(queue, new_job(user_id=2))
    await claim(queue)
    await submit(queue, new_job(user_id=1))


async def test_the_full_queue_still_knows_an_interaction_it_admitted(database: Database) -> None:
    queue = JobQueue(database, queued_per_user=1)
    new = new_job()
    job = await submit(queue, new)
    assert await submit(queue, new) == job


async def test_a_claim_starts_a_new_attempt(queue: JobQueue) -> None:
    await submit(queue)
    job = await claim(queue)
    assert (job.state, job.attempt) == (JobState.RUNNING, 1)
    assert job.started_at is not None


async def test_nothing_is_claimed_from_an_empty_queue(queue: JobQueue) -> None:
    assert await queue.claim(loaded=("embedded",)) is None


async def test_people_take_turns_however_many_jobs_one_of_them_has(database: Database) -> None:
    queue = JobQueue(database, running_per_user=100)
    for _ in range(5):
        await submit(queue, new_job(user_id=1))
    for _ in range(2):
        await submit(queue, new_job(user_id=2))
    assert [(await claim(queue)).user_id for _ in range(7)] == [1, 2, 1, 2, 1, 1, 1]


async def test_a_newcomer_gets_the_next_turn_but_no_credit_for_having_been_away(database: Database) -> None:
    queue = JobQueue(database, running_per_user=100)
    for _ in range(10):
        await submit(queue, new_job(user_id=1))
    for _ in range(6):
        await claim(queue)
    for _ in range(3):
        await submit(queue, new_job(user_id=2))
    assert [(await claim(queue)).user_id for _ in range(6)] == [2, 1, 2, 1, 2, 1]


async def test_after_a_costly_job_one_waits_for_as_much_of_the_others(database: Database) -> None:
    queue = JobQueue(database, running_per_user=100)
    for _ in range(2):
        await submit(queue, new_job(user_id=1), cost=3.0)
    for _ in range(5):
        await submit(queue, new_job(user_id=2), cost=1.0)
    assert [(await claim(queue)).user_id for _ in range(7)] == [1, 2, 2, 2, 1, 2, 2]


async def test_someone_at_their_running_cap_is_passed_over_even_when_they_fill_the_window(database: Database) -> None:
    queue = JobQueue(database, running_per_user=2, queued_per_user=200)
    for _ in range(WINDOW + 10):
        await submit(queue, new_job(user_id=1), cost=0.001)
    for _ in range(2):
        await submit(queue, new_job(user_id=2), cost=100.0)
    assert [(await claim(queue)).user_id for _ in range(4)] == [1, 2, 1, 2]
    assert await queue.claim() is None


async def test_a_loaded_checkpoint_moves_a_job_forward_by_no_more_than_its_own_cost(database: Database) -> None:
    queue = JobQueue(database)
    await submit(queue, new_job(user_id=1, checkpoint="other"), cost=1.0)
    await submit(queue, new_job(user_id=2, checkpoint="embedded"), cost=1.5)
    await submit(queue, new_job(user_id=3, checkpoint="embedded"), cost=1.8)
    assert [(await claim(queue, "embedded")).user_id for _ in range(3)] == [3, 2, 1]

    await submit(queue, new_job(user_id=4, checkpoint="other"), cost=1.0)
    await submit(queue, new_job(user_id=5, checkpoint="embedded"), cost=1.0)
    await submit(queue, new_job(user_id=5, checkpoint="embedded"), cost=1.0)
    await submit(queue, new_job(user_id=5, checkpoint="embedded"), cost=1.0)
    assert [(await claim(queue, "embedded")).user_id for _ in range(2)] == [5, 4]


async def test_the_position_counts_the_jobs_ahead(queue: JobQueue) -> None:
    first = await submit(queue, new_job(user_id=1))
    second = await submit(queue, new_job(user_id=1))
    other = await submit(queue, new_job(user_id=2))
    assert [(await queue.look(job.id)).position for job in (first, other, second)] == [0, 1, 2]
    await claim(queue)
    assert [(await queue.look(job.id)).position for job in (first, other, second)] == [None, 0, 1]


async def test_a_rendered_job_has_its_pictures(queue: JobQueue) -> None:
    await submit(queue)
    job = await claim(queue)
    pictures = (stored(job, 0), stored(job, 1))
    assert await queue.rendered(job, pictures, seconds=2.5)
    snapshot = await queue.look(job.id)
    assert (snapshot.job.state, snapshot.job.seconds, snapshot.images) == (JobState.RENDERED, 2.5, pictures)


async def test_a_result_of_an_older_attempt_changes_nothing(queue: JobQueue) -> None:
    await submit(queue)
    stale = await claim(queue)
    await queue.recover()
    current = await claim(queue)
    assert not await queue.rendered(stale, [stored(stale)], seconds=1.0)
    assert not await queue.fail(stale, "Too late.")
    assert not await queue.requeue(stale)
    assert not await queue.crashed(stale)
    assert await queue.get(stale.id) == current
    assert await queue.images(stale.id) == ()


async def test_a_job_goes_back_to_its_old_place(queue: JobQueue) -> None:
    first = await submit(queue, new_job(user_id=1))
    await submit(queue, new_job(user_id=1))
    assert await queue.requeue(await claim(queue))
    assert (await claim(queue)).id == first.id


async def test_after_a_crash_of_the_bot_every_running_job_waits_again(queue: JobQueue) -> None:
    jobs = [await submit(queue, new_job(user_id=user)) for user in range(3)]
    await claim(queue)
    await claim(queue)
    assert await queue.recover() == 2
    assert [(await claim(queue)).id for _ in jobs] == [job.id for job in jobs]


async def test_a_job_is_given_up_with_a_sentence_after_three_engine_crashes(queue: JobQueue) -> None:
    await submit(queue)
    for crashes in range(1, MAX_CRASHES):
        assert await queue.crashed(await claim(queue))
        assert (await queue.claim() or pytest.fail()).crashes == crashes
        await queue.recover()
    await queue.crashed(await claim(queue))
    [job_id] = await queue.unshown()
    job = await queue.get(job_id)
    assert (job.state, job.crashes) == (JobState.FAILED, 3)
    assert job.error == "The image engine stopped 3 times while it drew this, so it was given up."


async def test_a_waiting_and_a_running_job_can_be_cancelled_but_no_other(queue: JobQueue) -> None:
    running = await submit(queue, new_job(user_id=1))
    waiting = await submit(queue, new_job(user_id=2))
    await claim(queue)
    assert await queue.cancel(running.id)
    assert await queue.cancel(waiting.id)
    assert not await queue.cancel(waiting.id)
    assert await queue.claim() is None
    with pytest.raises(JobNotFound):
        await queue.cancel(12345)


async def test_the_result_of_a_cancelled_job_is_not_taken(queue: JobQueue) -> None:
    await submit(queue)
    job = await claim(queue)
    await queue.cancel(job.id)
    assert not await queue.rendered(job, [stored(job)], seconds=1.0)
    assert (await queue.get(job.id)).state is JobState.CANCELLED


async def test_a_shown_result_is_done_and_its_token_erased(queue: JobQueue) -> None:
    await submit(queue)
    job = await claim(queue)
    await queue.rendered(job, [stored(job)], seconds=1.0)
    assert await queue.unshown() == (job.id,)
    assert await queue.shown(await queue.get(job.id))
    done = await queue.get(job.id)
    assert (done.state, done.interaction_token) == (JobState.DONE, "")
    assert done.shown_at is not None
    assert await queue.unshown() == ()


async def test_a_result_that_was_given_up_meanwhile_does_not_become_done(queue: JobQueue) -> None:
    await submit(queue)
    job = await claim(queue)
    await queue.rendered(job, [stored(job)], seconds=1.0)
    finished = await queue.get(job.id)
    await queue.unshowable(job.id, JobState.FAILED, "Too large.", give_up=False)
    assert not await queue.shown(finished)
    failed = await queue.get(job.id)
    assert (failed.state, failed.error, failed.shown_at) == (JobState.FAILED, "Too large.", None)
    assert await queue.shown(failed)
    assert not await queue.shown(failed)


async def test_only_the_first_message_of_a_job_counts(queue: JobQueue) -> None:
    job = await submit(queue)
    await queue.attach_message(job.id, 11)
    await queue.attach_message(job.id, 12)
    assert (await queue.get(job.id)).message_id == 11


async def test_deleting_pictures_spares_the_files_that_another_job_shows(queue: JobQueue) -> None:
    await submit(queue, new_job(user_id=1))
    await submit(queue, new_job(user_id=2))
    first, second = await claim(queue), await claim(queue)
    await queue.rendered(first, [stored(first, 0, "a" * 64, "1" * 64), stored(first, 1, "c" * 64, "2" * 64)], seconds=1)
    await queue.rendered(second, [stored(second, 0, "a" * 64, "3" * 64)], seconds=1)
    assert await queue.delete_images(first.id) == {"c" * 64, "1" * 64, "2" * 64}
    assert await queue.images(first.id) == ()
    assert len(await queue.images(second.id)) == 1
    assert await queue.delete_images(second.id) == {"a" * 64, "3" * 64}


async def test_a_job_that_is_not_there_is_said_to_be_gone(queue: JobQueue) -> None:
    with pytest.raises(JobNotFound, match="gone"):
        await queue.get(1)
    with pytest.raises(JobNotFound, match="gone"):
        await queue.look(1)


async def test_a_result_that_is_to_be_shown_otherwise_meanwhile_is_shown_once_more(
    queue: JobQueue, database: WatchedDatabase
) -> None:
    await submit(queue)
    job = await claim(queue)
    await queue.rendered(job, [stored(job), stored(job, index=1)], seconds=1.0)
    on_its_way = await queue.get(job.id)
    async with database.write() as connection:
        await set_showing(connection, job.id, 1, Showing.REMOVED, note="It was removed.")
    assert await queue.shown(on_its_way)
    assert (await queue.get(job.id)).state is JobState.DONE
    assert await queue.unshown() == (job.id,)
    assert await queue.shown(await queue.get(job.id))
    assert await queue.unshown() == ()

    async with database.write() as connection:
        await set_showing(connection, job.id, None, Showing.PLAIN)
    assert await queue.unshown() == (job.id,)
    assert [(image.showing, image.note) for image in await queue.images(job.id)] == [(Showing.PLAIN, None)] * 2
