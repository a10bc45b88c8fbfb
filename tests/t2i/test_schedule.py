"""Respacing against tables worked out by hand, and as a property."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2i.diffusion.schedule import flow_schedule, space_timesteps, trailing_timesteps


def test_one_section_spans_the_whole_schedule() -> None:
    timesteps = space_timesteps(1000, "27")
    assert timesteps[:4] == [0, 38, 77, 115]
    assert timesteps[-1] == 999
    assert len(timesteps) == 27


def test_sections_divide_the_schedule_equally() -> None:
    timesteps = space_timesteps(1000, "10,10,10")
    assert len(timesteps) == 30
    assert timesteps[0] == 0
    assert timesteps[9] == 333
    assert timesteps[10] == 334
    assert timesteps[-1] == 999


def test_ddim_strides_evenly_from_zero() -> None:
    assert space_timesteps(1000, "ddim50") == list(range(0, 1000, 20))


def test_fast27_avoids_the_noisiest_timestep() -> None:
    assert space_timesteps(1000, "fast27")[-4:] == [600, 799, 800, 997]


@pytest.mark.parametrize("spec", ["ddim60", "0", "10,,10", "ten", "-3", "1001", "600,600", ""])
def test_what_cannot_be_is_refused_by_name(spec: str) -> None:
    with pytest.raises(ValueError, match=repr(spec).strip("'") or "respacing"):
        space_timesteps(1000, spec)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=8))
def test_every_accepted_spec_rises_strictly(counts: list[int]) -> None:
    timesteps = space_timesteps(1000, ",".join(map(str, counts)))
    assert len(timesteps) == sum(counts)
    assert timesteps == sorted(set(timesteps))
    assert timesteps[0] >= 0 and timesteps[-1] <= 999


@given(st.integers(1, 1000))
def test_trailing_timesteps_start_at_pure_noise(steps: int) -> None:
    timesteps = trailing_timesteps(1000, steps)
    assert len(timesteps) == steps
    assert timesteps[-1] == 999


def test_the_flow_runs_from_data_to_noise() -> None:
    schedule = flow_schedule(1000)
    np.testing.assert_allclose(schedule.alpha + schedule.sigma, 1)
    assert schedule.sigma[-1] == 1.0
