"""Sampler tables against diffusers' schedulers and against what every table must hold."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from hypothesis import given
from hypothesis import strategies as st

from t2i.diffusion.plan import SAMPLER_NAMES, Plan, build_plan
from t2i.diffusion.schedule import flow_schedule

SCHEDULE = flow_schedule(1000)


def follow(plan: Plan, latents: torch.Tensor, predict, noise=None) -> torch.Tensor:
    """The update of one latent by the table, in float64."""
    history = torch.zeros_like(latents)
    for timestep, (P, Q, A, B, C, D) in zip(plan.timesteps, plan.table, strict=True):
        denoised = P * latents + Q * predict(latents, timestep)
        fresh = noise() if D else 0.0
        latents = A * latents + B * denoised + C * history + D * fresh
        history = denoised
    return latents


def bent(latents: torch.Tensor, timestep: int) -> torch.Tensor:
    """A stand-in network: smooth, nonlinear, different at every timestep."""
    return torch.tanh(0.7 * latents + timestep / 1000) * 0.8


@pytest.mark.parametrize("steps", [1, 2, 7, 20, 50])
def test_flow_euler_is_that_of_diffusers(steps: int) -> None:
    oracle = FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000)
    start = torch.randn(2, 4, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    plan = build_plan(SCHEDULE, "flow_euler", steps)
    sigmas = [float(SCHEDULE.sigma[timestep]) for timestep in plan.timesteps]
    oracle.set_timesteps(sigmas=sigmas)
    latents = start.clone()
    for sigma, timestep in zip(sigmas, oracle.timesteps, strict=True):
        clean = bent(latents, round(sigma * 1000) - 1)
        latents = oracle.step((latents - clean) / sigma, timestep, latents, return_dict=False)[0].double()
    ours = follow(plan, start, bent)
    assert torch.linalg.norm(ours - latents) / torch.linalg.norm(latents) < 1e-5


@pytest.mark.parametrize("sampler", SAMPLER_NAMES)
def test_a_network_that_knows_the_picture_leads_to_the_picture(sampler: str) -> None:
    picture = torch.linspace(-1, 1, 64, dtype=torch.float64).reshape(1, 1, 8, 8)
    generator = torch.Generator().manual_seed(3)

    def noise() -> torch.Tensor:
        return torch.randn(picture.shape, generator=generator, dtype=torch.float64)

    end = follow(build_plan(SCHEDULE, sampler, 9), noise(), lambda latents, timestep: picture, noise)
    torch.testing.assert_close(end, picture, atol=1e-12, rtol=0)


def test_the_second_order_sampler_lands_nearer_to_the_exact_solution() -> None:
    """For Gaussian data N(mean, spread^2) the best denoiser and the flow's end point are known in closed form."""
    mean, spread = 0.3, 0.5

    def posterior_mean(latents: torch.Tensor, timestep: int) -> torch.Tensor:
        alpha, sigma = SCHEDULE.alpha[timestep], SCHEDULE.sigma[timestep]
        return (alpha * spread**2 * latents + sigma**2 * mean) / (alpha**2 * spread**2 + sigma**2)

    start = torch.randn(4, 4, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    exact = mean + spread * start
    error = {
        name: (follow(build_plan(SCHEDULE, name, 20), start, posterior_mean) - exact).norm()
        for name in ("ddim", "dpmpp_2m")
    }
    assert error["dpmpp_2m"] < 0.5 * error["ddim"]
    assert error["ddim"] < 0.1 * exact.norm()


@given(st.sampled_from(SAMPLER_NAMES), st.integers(1, 60), st.floats(0, 1))
def test_every_plan_falls_to_the_data(sampler: str, steps: int, strength: float) -> None:
    plan = build_plan(SCHEDULE, sampler, steps, strength=strength)
    assert len(plan) == round(steps * strength)
    assert list(plan.timesteps) == sorted(set(plan.timesteps), reverse=True)
    assert np.isfinite(plan.table).all()
    if len(plan):
        # The last step keeps nothing of the noisy latent and adds no noise.
        assert plan.table[-1][2] == 0.0
        assert plan.table[-1][5] == 0.0


def test_strength_keeps_the_least_noisy_steps() -> None:
    whole = build_plan(SCHEDULE, "ddim", 10)
    half = build_plan(SCHEDULE, "ddim", 10, strength=0.5)
    assert half.timesteps == whole.timesteps[5:]
    assert half.start_sigma == pytest.approx(0.5)
    assert half.start_alpha == pytest.approx(0.5)


def test_an_unknown_sampler_is_refused() -> None:
    with pytest.raises(ValueError, match="no sampler named 'plms'"):
        build_plan(SCHEDULE, "plms", 10)
