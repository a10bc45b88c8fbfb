"""Replays on a device whose times are given, so that every answer is known beforehand."""

from __future__ import annotations

import pytest

from benchmarks import arms, latency
from benchmarks.arms import OURS, PLAIN, STATIC, WHOLE
from benchmarks.replay import WINDOW, Engine, Log, RealClock
from benchmarks.simulation import Costs, SimulatedClock
from benchmarks.traces import Job
from t2i.api import GenerationRequest
from t2i.engine.calibration import Profile

ROOMY = Costs(steps={1: 1.0, 16: 1.0}, plain={1: (0.0, 1.0), 2: (0.0, 1.0)})
"""A step takes a second, whoever shares it."""
FULL = Costs(steps={1: 1.0, 16: 16.0}, plain={1: (0.0, 1.0), 2: (0.0, 2.0)})
"""A step takes a second a row: nothing is won by sharing."""


def job(name: str, steps: int, arrival: float = 0.0, *, user: str | None = None, scale: float = 1.0) -> Job:
    request = GenerationRequest(prompt="a cat", steps=steps, guidance_scale=scale, width=64)
    return Job(name, user or name, arrival, request)


def replay(arm: str, trace: list[Job], costs: Costs) -> Log:
    return arms.simulated(costs, Profile(costs.steps))[arm](trace)


def done(log: Log) -> dict[str, float]:
    return {record.job.name: record.done for record in log.records}


@pytest.mark.parametrize("arm", [PLAIN, WHOLE])
def test_whole_jobs_wait_for_those_before_them(arm: str) -> None:
    assert done(replay(arm, [job("long", 10), job("short", 2, 1.0)], ROOMY)) == {"long": 10.0, "short": 12.0}


def test_a_static_batch_waits_for_company_and_answers_together() -> None:
    log = replay(STATIC, [job("long", 10), job("short", 2, WINDOW), job("late", 2, 1.0)], ROOMY)
    assert done(log) == pytest.approx({"long": 10.0 + WINDOW, "short": 10.0 + WINDOW, "late": 12.0 + WINDOW})


def test_ours_joins_at_the_next_step_and_leaves_alone() -> None:
    log = replay(OURS, [job("long", 10), job("short", 2, 0.5)], ROOMY)
    assert done(log) == {"long": 10.0, "short": 3.0}
    assert [record.joined for record in log.records] == [1, 1]


def test_a_step_that_is_heard_of_late_does_not_count_as_a_late_one() -> None:
    log = Log([job("one", 3)], SimulatedClock())
    for step, ticks in ((1, 4), (2, 2), (3, 5)):
        log.stepped("one", step, ticks)
    assert latency.join_delays(log)["p99"] == 1


def test_idle_time_is_skipped_and_counts_for_nobody() -> None:
    log = replay(OURS, [job("one", 2), job("two", 2, 100.0)], ROOMY)
    assert [record.latency for record in log.records] == [2.0, 2.0]
    assert log.images_per_second == pytest.approx(2 / 102)


def test_where_nothing_is_won_by_sharing_short_jobs_still_go_first() -> None:
    trace = [job("long", 50), job("short", 4, 0.5)]
    whole, ours = (done(replay(arm, trace, FULL)) for arm in (WHOLE, OURS))
    assert whole == {"long": 50.0, "short": 54.0}
    assert ours["short"] < 10
    assert ours["long"] == 54.0


def test_rows_beyond_the_best_batch_wait_for_another_step() -> None:
    costs = Costs(steps={1: 1.0, 2: 1.0, 4: 2.0, 8: 4.0}, plain={})
    log = replay(OURS, [job(str(index), 1) for index in range(4)], costs)
    assert sorted(done(log).values()) == [1.0, 1.0, 2.0, 2.0]


def test_a_step_between_two_measured_batches_is_on_the_line_between_them() -> None:
    costs = Costs(steps={1: 1.0, 4: 2.5, 8: 4.0}, plain={})
    assert costs.step(2) == pytest.approx(1.5)
    assert costs.step(16) == pytest.approx(8.0)


@pytest.mark.parametrize("arm", [WHOLE, OURS])
def test_the_first_preview_comes_after_two_steps_and_the_picture_when_it_is_made(arm: str) -> None:
    costs = Costs(steps={1: 1.0, 16: 1.0}, plain={}, admit=0.25, finish=0.5)
    (record,) = replay(arm, [job("one", 5)], costs).records
    assert record.first_look == pytest.approx(2.25)
    assert record.latency == pytest.approx(5.75)


def test_a_summary_tells_classes_and_users_apart() -> None:
    trace = [job("long", 50, user="ann"), job("short", 4, user="bob")]
    found = latency.summarise(replay(OURS, trace, ROOMY))
    assert found["latency"]["mean"] == 27.0
    assert found["by_steps"] == {
        "4": {"mean": 4.0, "p50": 4.0, "p95": 4.0, "p99": 4.0},
        "50": {"mean": 50.0, "p50": 50.0, "p95": 50.0, "p99": 50.0},
    }
    assert found["by_user"]["bob"]["p95"] == 4.0


def test_an_engine_that_dies_ends_the_replay() -> None:
    class Dying:
        ticks = 0

        def run(self) -> None:
            raise OSError("no device")

        def submit(self, _: object) -> None: ...

        def drain(self) -> None: ...

    with pytest.raises(RuntimeError, match="no device"):
        Engine(lambda _: Dying(), "none").replay([job("one", 1), job("two", 1)], RealClock(), at_once=1)  # type: ignore[arg-type, return-value]
