"""Every sampler against diffusers' own scheduler: same timesteps, same network, same noise, the same latents.

The schedulers are diffusers' as they come, float32 tables and all; each carries latents in its own parametrisation and
scales the network's input by itself, where ours are always x = alpha x0 + sigma noise and never scaled.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    HeunDiscreteScheduler,
    LCMScheduler,
)
from torch import Tensor

from t2i.diffusion.plan import Plan, build_plan
from t2i.diffusion.schedule import Schedule, flow_schedule, make_betas, vp_schedule

TOLERANCE = 1e-5
STEPS = [2, 7, 20, 50]
SHAPE = (2, 4, 8, 8)

SCHEDULERS: dict[str, tuple[type, dict[str, Any]]] = {
    "ddpm": (DDPMScheduler, {"clip_sample": False}),
    "ddim": (DDIMScheduler, {"clip_sample": False}),
    "euler": (EulerDiscreteScheduler, {}),
    "euler_a": (EulerAncestralDiscreteScheduler, {}),
    "heun": (HeunDiscreteScheduler, {}),
    "dpmpp_2m": (DPMSolverMultistepScheduler, {}),
    "dpmpp_2m_karras": (DPMSolverMultistepScheduler, {"use_karras_sigmas": True}),
    "lcm": (LCMScheduler, {}),
}
RANDOM = (DDPMScheduler, DDIMScheduler, EulerAncestralDiscreteScheduler, LCMScheduler)

Network = Callable[[Tensor, float], Tensor]


def stable_diffusion(spacing: str = "leading", *, zero_terminal_snr: bool = False) -> Schedule:
    betas = make_betas("scaled_linear", start=0.00085, end=0.012)
    return vp_schedule(
        betas, spacing=spacing, steps_offset=int(spacing == "leading"), zero_terminal_snr=zero_terminal_snr
    )


def diffusers_scheduler(sampler: str, spacing: str = "leading", **options):
    scheduler, own = SCHEDULERS[sampler]
    return scheduler(
        **{
            "beta_schedule": "scaled_linear",
            "beta_start": 0.00085,
            "beta_end": 0.012,
            "timestep_spacing": spacing,
            "steps_offset": int(spacing == "leading"),
        }
        | own
        | options
    )


def bent(latents: Tensor, timestep: float) -> Tensor:
    """A stand-in network: smooth, nonlinear, different at every timestep."""
    return torch.tanh(0.7 * latents + float(timestep) / 1000) * 0.8


def normal(generator: torch.Generator) -> Tensor:
    return torch.randn(SHAPE, generator=generator, dtype=torch.float64)


def follow(plan: Plan, network: Network = bent, share: Network | None = None) -> Tensor:
    """Latents at the end of a plan, in float64; the first noise and that of the steps come from one generator.

    `share` is what a network that learned the variance answers of it, from -1 to 1.
    """
    generator = torch.Generator().manual_seed(1)
    latents = normal(generator) * plan.start_scale
    history = torch.zeros_like(latents)
    for timestep, (P, Q, A, B, C, D, E) in zip(plan.timesteps, plan.table, strict=True):
        denoised = P * latents + Q * network(latents, timestep)
        fresh = normal(generator) if E else 0.0
        if share is not None and E:
            v = (share(latents, timestep) + 1) / 2
            D = D ** (1 - v) * E**v  # noqa: PLW2901
        latents = A * latents + B * denoised + C * history + D * fresh
        history = denoised
    return latents


def oracle(scheduler, network: Network = bent, **options) -> Tensor:
    """The same through diffusers' scheduler, whose timesteps are set."""
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(0)  # else equal timesteps at the start, as Karras' can be, count as one
    generator = torch.Generator().manual_seed(1)
    latents = normal(generator) * getattr(scheduler, "init_noise_sigma", 1.0)
    if isinstance(scheduler, RANDOM):
        options["generator"] = generator
    for timestep in scheduler.timesteps:
        scaled = scheduler.scale_model_input(latents, timestep) if hasattr(scheduler, "scale_model_input") else latents
        latents = scheduler.step(network(scaled, timestep), timestep, latents, return_dict=False, **options)[0].double()
    return latents


def error(ours: Tensor, theirs: Tensor) -> float:
    return float(torch.linalg.norm(ours - theirs) / torch.linalg.norm(theirs))


# diffusers' Euler ancestral knows no "sample", so that pair has no oracle.
PREDICTIONS = [
    (sampler, prediction)
    for sampler in SCHEDULERS
    for prediction in ("epsilon", "v_prediction", "sample")
    if (sampler, prediction) != ("euler_a", "sample")
]


def has_oracle(sampler: str, spacing: str, steps: int) -> bool:
    """diffusers' DDIM steps by 1000 // steps whatever its spacing says, which is trailing only where that is whole."""
    return sampler != "ddim" or (spacing == "trailing" and 1000 % steps == 0)


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize(("sampler", "prediction"), PREDICTIONS)
def test_a_plan_draws_what_the_scheduler_of_diffusers_draws(sampler: str, prediction: str, steps: int) -> None:
    scheduler = diffusers_scheduler(sampler, prediction_type=prediction)
    scheduler.set_timesteps(steps)
    plan = build_plan(stable_diffusion(), sampler, steps, prediction=prediction)
    assert error(follow(plan), oracle(scheduler)) < TOLERANCE


@pytest.mark.parametrize(
    ("sampler", "spacing", "steps"),
    [key for key in product(SCHEDULERS, ("trailing", "linspace"), STEPS) if has_oracle(*key)],
)
def test_other_spacings_are_those_of_diffusers(sampler: str, spacing: str, steps: int) -> None:
    scheduler = diffusers_scheduler(sampler, spacing)
    scheduler.set_timesteps(steps)
    plan = build_plan(stable_diffusion(spacing), sampler, steps, prediction="epsilon")
    np.testing.assert_allclose(plan.timesteps, scheduler.timesteps, rtol=1e-6)
    assert error(follow(plan), oracle(scheduler)) < TOLERANCE


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("eta", [0.3, 1.0])
def test_ddim_takes_any_eta(eta: float, steps: int) -> None:
    scheduler = diffusers_scheduler("ddim")
    scheduler.set_timesteps(steps)
    plan = build_plan(stable_diffusion(), "ddim", steps, prediction="epsilon", eta=eta)
    assert error(follow(plan), oracle(scheduler, eta=eta)) < TOLERANCE


@pytest.mark.parametrize("steps", STEPS)
def test_ddpm_takes_the_larger_variance(steps: int) -> None:
    # Where a spacing leaves out timestep 0, diffusers adds this variance to the finished picture; linspace does not.
    scheduler = diffusers_scheduler("ddpm", "linspace", variance_type="fixed_large")
    scheduler.set_timesteps(steps)
    plan = build_plan(stable_diffusion("linspace"), "ddpm", steps, prediction="epsilon", variance="fixed_large")
    assert error(follow(plan), oracle(scheduler)) < TOLERANCE


@pytest.mark.parametrize("steps", STEPS)
def test_ddpm_takes_a_variance_that_the_network_learned(steps: int) -> None:
    def share(latents: Tensor, timestep: float) -> Tensor:
        """Where between its bounds, -1 and 1, the network would have the variance."""
        return torch.cos(latents + float(timestep))

    def both(latents: Tensor, timestep: float) -> Tensor:
        return torch.cat([bent(latents, timestep), share(latents, timestep)], 1)

    scheduler = diffusers_scheduler("ddpm", "linspace", variance_type="learned_range")
    scheduler.set_timesteps(steps)
    plan = build_plan(stable_diffusion("linspace"), "ddpm", steps, prediction="epsilon", variance="learned_range")
    assert error(follow(plan, share=share), oracle(scheduler, both)) < TOLERANCE


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("spacing", ["karras", "exponential"])
@pytest.mark.parametrize("sampler", ["euler", "heun"])
def test_sigma_spacings_are_those_of_diffusers(sampler: str, spacing: str, steps: int) -> None:
    scheduler = diffusers_scheduler(sampler, "linspace", **{f"use_{spacing}_sigmas": True})
    scheduler.set_timesteps(steps)
    plan = build_plan(stable_diffusion(spacing), sampler, steps, prediction="epsilon")
    assert len(set(plan.timesteps)) == steps
    # diffusers interpolates float32 logarithms.
    np.testing.assert_allclose(plan.timesteps, scheduler.timesteps, atol=2e-3)
    assert error(follow(plan), oracle(scheduler)) < TOLERANCE


@pytest.mark.parametrize(
    ("sampler", "steps"),
    [
        (sampler, steps)
        for sampler, steps in product(("ddpm", "ddim", "euler", "dpmpp_2m", "dpmpp_2m_karras"), STEPS)
        if has_oracle(sampler, "trailing", steps)
    ],
)
def test_zero_terminal_snr_starts_from_pure_noise(sampler: str, steps: int) -> None:
    scheduler = diffusers_scheduler(sampler, "trailing", prediction_type="v_prediction", rescale_betas_zero_snr=True)
    scheduler.set_timesteps(steps)
    schedule = stable_diffusion("trailing", zero_terminal_snr=True)
    plan = build_plan(schedule, sampler, steps, prediction="v_prediction")
    assert error(follow(plan), oracle(scheduler)) < TOLERANCE


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("spacing", ["trailing", "linspace"])
def test_flow_euler_steps_as_flux_and_sd3_do(spacing: str, shift: float, steps: int) -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    if spacing == "trailing":
        scheduler.set_timesteps(sigmas=np.linspace(1, 1 / steps, steps))
    else:
        scheduler.set_timesteps(steps)
    schedule = flow_schedule(reads_sigma=True, spacing=spacing, shift=shift)
    plan = build_plan(schedule, "flow_euler", steps, prediction="flow")
    np.testing.assert_allclose(plan.timesteps, scheduler.timesteps, rtol=1e-6)
    assert error(follow(plan), oracle(scheduler)) < TOLERANCE


@pytest.mark.parametrize("steps", STEPS)
def test_heun_on_a_flow_is_that_of_diffusers(steps: int) -> None:
    scheduler = FlowMatchHeunDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(steps)
    schedule = flow_schedule(reads_sigma=True, spacing="linspace", shift=3.0)
    plan = build_plan(schedule, "heun", steps, prediction="flow")
    assert error(follow(plan), oracle(scheduler)) < TOLERANCE


@pytest.mark.parametrize("steps", STEPS)
def test_dpmpp_2m_on_a_flow_is_that_of_diffusers(steps: int) -> None:
    scheduler = DPMSolverMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction")
    scheduler.set_timesteps(steps)
    plan = build_plan(flow_schedule(reads_sigma=True, shift=3.0), "dpmpp_2m", steps, prediction="flow")
    # diffusers spaces the sigmas of a flow differently under every scheduler; here they are FLUX's.
    scheduler.timesteps = torch.tensor(plan.timesteps)
    scheduler.sigmas = torch.tensor([*plan.timesteps, 0.0]) / 1000
    assert error(follow(plan), oracle(scheduler)) < TOLERANCE
