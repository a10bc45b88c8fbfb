"""Traces of mixed users: the same for every arm, and as mixed as they are said to be."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.traces import FLOOD, Mix, flooded, poisson
from t2i.api import validate

MIX = Mix(64, ("flow_euler", "ddim"))


def test_a_seed_gives_one_trace_and_another_seed_another() -> None:
    assert poisson(MIX, 40, 2.0, seed=1) == poisson(MIX, 40, 2.0, seed=1)
    assert poisson(MIX, 40, 2.0, seed=1) != poisson(MIX, 40, 2.0, seed=2)


def test_every_twenty_jobs_have_the_shares_that_are_promised() -> None:
    trace = poisson(MIX, 60, 1.0, seed=3)
    for start in (0, 20, 40):
        steps = Counter(job.steps for job in trace[start : start + 20])
        assert steps == {4: 5, 8: 3, 20: 5, 28: 4, 50: 3}


def test_a_higher_load_is_the_same_trace_in_less_time() -> None:
    slow, fast = poisson(MIX, 40, 1.0, seed=4), poisson(MIX, 40, 4.0, seed=4)
    assert [job.request for job in slow] == [job.request for job in fast]
    assert [job.arrival for job in slow] == pytest.approx([4 * job.arrival for job in fast])


def test_arrivals_are_a_poisson_process_of_the_rate() -> None:
    arrivals = [job.arrival for job in poisson(MIX, 4000, 5.0, seed=5)]
    gaps = np.diff(arrivals)
    assert gaps.mean() == pytest.approx(0.2, rel=0.05)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.05)


def test_at_an_infinite_rate_everything_is_asked_for_at_once() -> None:
    assert {job.arrival for job in poisson(MIX, 20, float("inf"), seed=1)} == {0.0}


def test_users_settings_and_seeds_are_mixed_and_each_request_can_be_had() -> None:
    trace = poisson(replace(MIX, images=4), 400, 1.0, seed=6)
    assert len({job.user for job in trace}) == 8
    assert {job.request.sampler for job in trace} == set(MIX.samplers)
    assert {job.rows for job in trace} == {4, 8}
    assert len({job.name for job in trace}) == len({job.request.seed for job in trace}) == 400
    for job in trace:
        validate(job.request)


def test_a_flood_leaves_the_others_as_they_were() -> None:
    light = poisson(MIX, 50, 1.0, seed=7, users=7)
    both = flooded(light, MIX, 3.0, seed=8)
    assert [job for job in both if job.user != FLOOD] == light
    assert sum(job.user == FLOOD for job in both) == pytest.approx(150, rel=0.3)
    assert [job.arrival for job in both] == sorted(job.arrival for job in both)
