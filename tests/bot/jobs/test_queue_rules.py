"""Rules of the queue that hold whatever happens in whatever order."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from collections import Counter
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import select

from bot.errors import QueueFull
from bot.jobs.decided import refuse, release
from bot.jobs.model import Job, JobState, NewJob, StoredImage
from bot.jobs.queue import MAX_CRASHES, JobQueue
from bot.jobs.quota import Terms
from bot.storage import tables
from bot.storage.session import Database

from .conftest import new_job

USERS = st.integers(1, 3)
COSTS = st.sampled_from((0.5, 1.0, 2.0, 4.0))
RUNNING_CAP, QUEUED_CAP = 2, 4

T = TypeVar("T")


class Workbench:
    """One database in a loop of its own, emptied before every example."""

    def __init__(self, url: str) -> None:
        self._runner = asyncio.Runner()
        self.database = Database(url)
        self.run(self.database.upgrade())

    def run(self, work: Awaitable[T]) -> T:
        async def awaited() -> T:
            return await work

        return self._runner.run(awaited())

    async def empty(self) -> None:
        async with self.database.write() as connection:
            for table in reversed(tables.metadata.sorted_tables):
                if table is not tables.audit:  # which refuses, and which the queue leaves empty
                    await connection.execute(table.delete())

    def close(self) -> None:
        self.run(self.database.close())
        self._runner.close()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def bench(request: pytest.FixtureRequest) -> Iterator[Workbench]:
    # These rules do not depend on the disk, so where there is a folder in memory they need not wait for one.
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        if request.param == "sqlite":
            bench = Workbench(f"sqlite+aiosqlite:///{Path(folder) / 'imagine.db'}")
        else:
            bench = Workbench(request.getfixturevalue("postgres").emptied_database())
        yield bench
        bench.close()


class QueueRules(RuleBasedStateMachine):
    """People, the engine and crashes do as they please; a plain model says what must have become of each job."""

    bench: Workbench
    asked: Bundle[NewJob] = Bundle("asked")
    claims: Bundle[Job] = Bundle("claims")

    @initialize()
    def start_empty(self) -> None:
        self.bench.run(self.bench.empty())
        self.queue = JobQueue(self.bench.database, running_per_user=RUNNING_CAP, queued_per_user=QUEUED_CAP)
        self.states: dict[int, JobState] = {}
        self.attempts: dict[int, int] = {}
        self.crashes: Counter[int] = Counter()
        self.owners: dict[int, int] = {}
        self.by_interaction: dict[int, int] = {}

    def count(self, user_id: int, state: JobState) -> int:
        return sum(self.owners[job_id] == user_id and now is state for job_id, now in self.states.items())

    def is_current(self, claimed: Job) -> bool:
        return self.states[claimed.id] is JobState.RUNNING and self.attempts[claimed.id] == claimed.attempt

    @rule(target=asked, user_id=USERS, cost=COSTS, held=st.sampled_from([None, None, "Rule 1 holds it."]))
    def ask(self, user_id: int, cost: float, held: str | None) -> NewJob:
        new = new_job(user_id=user_id, held=held)
        full = self.count(user_id, JobState.QUEUED) + self.count(user_id, JobState.HELD) >= QUEUED_CAP
        try:
            job = self.bench.run(self.queue.submit(new, cost=cost))
        except QueueFull:
            assert full
            return multiple()
        assert not full
        self.states[job.id] = JobState.HELD if held else JobState.QUEUED
        self.attempts[job.id], self.owners[job.id] = 0, user_id
        self.by_interaction[new.interaction_id] = job.id
        return new

    @rule(new=asked)
    def discord_sends_an_interaction_again(self, new: NewJob) -> None:
        assert self.bench.run(self.queue.submit(new, cost=1.0)).id == self.by_interaction[new.interaction_id]

    @rule(target=claims)
    def claim(self) -> Job:
        job = self.bench.run(self.queue.claim())
        if job is None:
            waiting = {self.owners[job_id] for job_id, state in self.states.items() if state is JobState.QUEUED}
            assert all(self.count(user_id, JobState.RUNNING) >= RUNNING_CAP for user_id in waiting)
            return multiple()
        assert self.states[job.id] is JobState.QUEUED
        assert job.attempt == self.attempts[job.id] + 1
        self.states[job.id], self.attempts[job.id] = JobState.RUNNING, job.attempt
        return job

    @rule(claimed=claims)
    def finish(self, claimed: Job) -> None:
        picture = StoredImage(claimed.id, 0, claimed.attempt, 64, 64, "a" * 64, "b" * 64)
        assert self.bench.run(self.queue.rendered(claimed, [picture], seconds=1.0)) == self.is_current(claimed)
        if self.is_current(claimed):
            self.states[claimed.id] = JobState.RENDERED
            assert self.bench.run(self.queue.images(claimed.id)) == (picture,)

    @rule(claimed=claims)
    def fail(self, claimed: Job) -> None:
        assert self.bench.run(self.queue.fail(claimed, "No.")) == self.is_current(claimed)
        if self.is_current(claimed):
            self.states[claimed.id] = JobState.FAILED

    @rule(claimed=claims)
    def engine_crashes(self, claimed: Job) -> None:
        assert self.bench.run(self.queue.crashed(claimed)) == self.is_current(claimed)
        if self.is_current(claimed):
            self.crashes[claimed.id] += 1
            given_up = self.crashes[claimed.id] >= MAX_CRASHES
            self.states[claimed.id] = JobState.FAILED if given_up else JobState.QUEUED

    @rule(new=asked)
    def cancel(self, new: NewJob) -> None:
        job_id = self.by_interaction[new.interaction_id]
        alive = self.states[job_id] in (JobState.HELD, JobState.QUEUED, JobState.RUNNING)
        assert self.bench.run(self.queue.cancel(job_id)) == alive
        if alive:
            self.states[job_id] = JobState.CANCELLED

    @rule(new=asked, allowed=st.booleans())
    def moderator_decides(self, new: NewJob, allowed: bool) -> None:
        job_id = self.by_interaction[new.interaction_id]

        async def decide() -> bool:
            async with self.bench.database.write() as connection:
                return await (release(connection, job_id) if allowed else refuse(connection, job_id, "No."))

        held = self.states[job_id] is JobState.HELD
        assert self.bench.run(decide()) == held
        if held:
            self.states[job_id] = JobState.QUEUED if allowed else JobState.FAILED

    @rule()
    def bot_crashes(self) -> None:
        running = [job_id for job_id, state in self.states.items() if state is JobState.RUNNING]
        assert self.bench.run(self.queue.recover()) == len(running)
        self.states.update(dict.fromkeys(running, JobState.QUEUED))

    def teardown(self) -> None:
        async def look() -> dict[int, tuple[JobState, int]]:
            jobs = [await self.queue.get(job_id) for job_id in self.states]
            return {job.id: (job.state, job.attempt) for job in jobs}

        async def charged() -> set[int]:
            async with self.bench.database.read() as connection:
                return set(await connection.scalars(select(tables.charges.c.job_id)))

        assert self.bench.run(look()) == {id: (state, self.attempts[id]) for id, state in self.states.items()}
        refunded = (JobState.FAILED, JobState.CANCELLED)
        assert self.bench.run(charged()) == {id for id, state in self.states.items() if state not in refunded}

    @invariant()
    def nobody_is_over_a_cap(self) -> None:
        for user_id in set(self.owners.values()):
            assert self.count(user_id, JobState.RUNNING) <= RUNNING_CAP


def test_no_order_of_events_breaks_a_cap_a_fence_or_idempotence(bench: Workbench) -> None:
    QueueRules.bench = bench
    run_state_machine_as_test(
        QueueRules,
        settings=settings(
            max_examples=20, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(asked=st.lists(st.tuples(USERS, COSTS), min_size=2, max_size=16))
def test_while_people_wait_their_shares_differ_by_at_most_one_job(
    bench: Workbench, asked: list[tuple[int, float]]
) -> None:
    async def serve() -> list[tuple[int, float]]:
        await bench.empty()
        queue = JobQueue(bench.database, running_per_user=100)
        costs = {(await queue.submit(new_job(user_id=user), cost=cost)).id: cost for user, cost in asked}
        served = []
        while job := await queue.claim():
            served.append((job.user_id, costs[job.id]))
        return served

    served = bench.run(serve())
    assert Counter(served) == Counter(asked)
    waiting = Counter(user for user, _ in asked)
    share = dict.fromkeys(waiting, 0.0)
    largest = max(cost for _, cost in asked)
    for user, cost in served:
        share[user] += cost
        waiting[user] -= 1
        backlogged = [share[someone] for someone, left in waiting.items() if left]
        if len(backlogged) > 1:
            assert max(backlogged) - min(backlogged) <= largest


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    bursts=st.lists(st.tuples(st.integers(0, 6), st.lists(COSTS, min_size=1, max_size=5)), min_size=2, max_size=5),
)
@example(bursts=[(0, [0.5] * 5), *[(0, [4.0] + [0.5] * 4)] * 3, (5, [4.0])])  # breaks an order by where jobs end
def test_nobody_waits_longer_than_the_number_of_users_times_the_largest_cost(
    bench: Workbench, bursts: list[tuple[int, list[float]]]
) -> None:
    """Each user asks for several jobs, some turns after the one before asked."""

    async def waits() -> list[tuple[float, float]]:
        """For each job: the work of others that went before it, and that of its own user."""
        await bench.empty()
        queue = JobQueue(bench.database, running_per_user=100)
        costs: dict[int, float] = {}
        served: list[Job] = []
        asked_at: dict[int, int] = {}

        async def serve(turns: int | None = None) -> None:
            while (turns is None or turns > 0) and (job := await queue.claim()):
                served.append(job)
                turns = None if turns is None else turns - 1

        for user_id, (turns, burst) in enumerate(bursts):
            await serve(turns)
            for cost in burst:
                job = await queue.submit(new_job(user_id=user_id), cost=cost)
                costs[job.id], asked_at[job.id] = cost, len(served)
        await serve()
        found = []
        for turn, job in enumerate(served):
            before = served[asked_at[job.id] : turn]
            others = sum(costs[one.id] for one in before if one.user_id != job.user_id)
            own = sum(costs[one.id] for one in served[:turn] if one.user_id == job.user_id)
            found.append((others, own))
        return found

    largest = max(cost for _, burst in bursts for cost in burst)
    for others, own in bench.run(waits()):
        assert others <= (len(bursts) - 1) * (largest + own)


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    weights=st.lists(st.sampled_from((0.5, 1.0, 2.0, 4.0)), min_size=2, max_size=3),
    costs=st.lists(COSTS, min_size=3, max_size=6),
)
def test_while_people_wait_their_shares_are_as_their_weights(
    bench: Workbench, weights: list[float], costs: list[float]
) -> None:
    async def serve() -> list[tuple[int, float]]:
        await bench.empty()
        queue = JobQueue(bench.database, running_per_user=100)
        asked = {}
        for user, weight in enumerate(weights):
            for cost in costs:
                job = await queue.submit(new_job(user_id=user), cost=cost, terms=Terms(weight=weight))
                asked[job.id] = cost
        served = []
        while job := await queue.claim():
            served.append((job.user_id, asked[job.id]))
        return served

    waiting, share = Counter(dict.fromkeys(range(len(weights)), len(costs))), dict.fromkeys(range(len(weights)), 0.0)
    for user, cost in bench.run(serve()):
        share[user] += cost
        waiting[user] -= 1
        backlogged = {someone: share[someone] / weights[someone] for someone, left in waiting.items() if left}
        for one, other in itertools.permutations(backlogged, 2):
            assert backlogged[one] - backlogged[other] <= max(costs) / weights[one] + 1e-9


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(flood=st.integers(3, 8), before=st.integers(0, 4), others=st.integers(0, 2))
def test_a_newcomer_waits_one_turn_of_everybody_however_long_the_queue_is(
    bench: Workbench, flood: int, before: int, others: int
) -> None:
    async def turns() -> int:
        await bench.empty()
        queue = JobQueue(bench.database, running_per_user=100)
        for user_id in range(1, others + 2):
            for _ in range(flood):
                await queue.submit(new_job(user_id=user_id), cost=1.0)
        for _ in range(before):
            await queue.claim()
        newcomer = await queue.submit(new_job(user_id=99), cost=1.0)
        waited = 0
        while (job := await queue.claim()) and job.id != newcomer.id:
            waited += 1
        return waited

    assert bench.run(turns()) <= others + 1
