"""Schedules against diffusers', respacing against tables worked out by hand, and what all must hold."""

from __future__ import annotations

import numpy as np
import pytest
from diffusers import DDIMScheduler
from hypothesis import given
from hypothesis import strategies as st

from t2i.diffusion.schedule import (
    flow_schedule,
    lcm_timesteps,
    make_betas,
    space_timesteps,
    spaced_sigmas,
    spaced_timesteps,
    trailing_timesteps,
    vp_schedule,
)


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


@pytest.mark.parametrize("zero_terminal_snr", [False, True])
@pytest.mark.parametrize("kind", ["linear", "scaled_linear", "squaredcos_cap_v2"])
def test_schedules_are_those_of_diffusers(kind: str, zero_terminal_snr: bool) -> None:
    theirs = DDIMScheduler(
        beta_schedule=kind, beta_start=0.001, beta_end=0.015, rescale_betas_zero_snr=zero_terminal_snr
    )
    ours = vp_schedule(make_betas(kind, start=0.001, end=0.015), zero_terminal_snr=zero_terminal_snr)
    np.testing.assert_allclose(ours.alpha**2, theirs.alphas_cumprod, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(ours.alpha**2 + ours.sigma**2, 1)
    assert (ours.alpha[-1] == 0) == zero_terminal_snr
    assert np.isfinite(ours.level).all()


@pytest.mark.parametrize("zero_terminal_snr", [False, True])
@pytest.mark.parametrize("spacing", ["karras", "exponential"])
@given(st.integers(2, 200))
def test_sigma_spacings_fall_from_the_noisiest_level_to_the_least_noisy(
    spacing: str, zero_terminal_snr: bool, steps: int
) -> None:
    schedule = vp_schedule(make_betas("linear"), zero_terminal_snr=zero_terminal_snr)
    sigmas = spaced_sigmas(schedule, steps, spacing)
    assert (np.diff(sigmas) < 0).all()
    levels = schedule.at_levels(sigmas)
    assert (np.diff(levels.timesteps) < 0).all()
    np.testing.assert_allclose(levels.timesteps[[0, -1]], [999, 0], atol=1e-9)
    np.testing.assert_allclose(levels.sigma[:-1] / levels.alpha[:-1], sigmas)
    assert (levels.alpha[-1], levels.sigma[-1]) == (1, 0)


def test_a_level_and_its_timestep_find_each_other() -> None:
    for schedule in (vp_schedule(make_betas("linear")), flow_schedule(), flow_schedule(shift=3.0)):
        whole = schedule.at_timesteps(range(1000))
        np.testing.assert_allclose(schedule.at_levels(schedule.level[::-1]).timesteps, whole.timesteps, atol=1e-6)
        np.testing.assert_allclose(schedule.between_timesteps(range(1000)).alpha, whole.alpha, atol=1e-12)


def test_a_network_that_reads_sigma_is_told_sigma() -> None:
    levels = flow_schedule(reads_sigma=True, shift=3.0).at_timesteps([0, 499, 999])
    np.testing.assert_allclose(levels.timesteps, [1000, 750, 3000 / 1002])


def test_shift_leans_towards_the_noise() -> None:
    np.testing.assert_allclose(flow_schedule(4, shift=3.0).sigma, [0.5, 0.75, 0.9, 1])


def test_lcm_stops_where_it_was_distilled() -> None:
    assert lcm_timesteps(1000, 4) == [259, 499, 759, 999]


@pytest.mark.parametrize(
    ("spacing", "expected"),
    [("leading", [1, 251, 501, 751]), ("trailing", [249, 499, 749, 999]), ("linspace", [0, 333, 666, 999])],
)
def test_timestep_spacings(spacing: str, expected: list[int]) -> None:
    np.testing.assert_allclose(spaced_timesteps(1000, 4, spacing, steps_offset=1), expected)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: make_betas("sigmoid"), "no beta schedule named 'sigmoid'"),
        (lambda: spaced_timesteps(1000, 10, "karras"), "no timestep spacing named 'karras'"),
        (lambda: spaced_timesteps(1000, 1000, "leading", 1), "run past 1000 timesteps"),
        (lambda: spaced_timesteps(1000, 0, "linspace"), "0 steps cannot be had"),
        (lambda: spaced_sigmas(flow_schedule(), 10, "leading"), "no sigma spacing named 'leading'"),
        (lambda: lcm_timesteps(1000, 51), "at most 50"),
    ],
)
def test_what_no_schedule_has_is_refused(call, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        call()
