"""What the table of every sampler must hold, whatever the schedule; test_samplers compares them with diffusers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from hypothesis import given
from hypothesis import strategies as st

from t2i.api import SAMPLERS
from t2i.diffusion.plan import SAMPLER_NAMES, Plan, build_plan
from t2i.diffusion.schedule import Schedule, flow_schedule, make_betas, space_timesteps, vp_schedule

SCHEDULE = flow_schedule(1000)
SCHEDULES = [
    SCHEDULE,
    flow_schedule(reads_sigma=True, shift=3.0),
    flow_schedule(reads_sigma=True, shift=3.0, spacing="linspace"),
    vp_schedule(make_betas("scaled_linear", start=0.00085, end=0.012), spacing="leading", steps_offset=1),
    vp_schedule(make_betas("linear"), spacing="linspace"),
    vp_schedule(make_betas("linear"), spacing="trailing", zero_terminal_snr=True),
    vp_schedule(make_betas("scaled_linear"), spacing="karras"),
    vp_schedule(make_betas("scaled_linear"), spacing="exponential"),
    vp_schedule(make_betas("squaredcos_cap_v2"), spacing="leading"),
]


def follow(plan: Plan, latents: torch.Tensor, predict, noise=None) -> torch.Tensor:
    """The update of one latent by the table, in float64."""
    history = torch.zeros_like(latents)
    for timestep, (P, Q, A, B, C, D, _) in zip(plan.timesteps, plan.table, strict=True):
        denoised = P * latents + Q * predict(latents, timestep)
        fresh = noise() if D else 0.0
        latents = A * latents + B * denoised + C * history + D * fresh
        history = denoised
    return latents


def bent(latents: torch.Tensor, timestep: float) -> torch.Tensor:
    """A stand-in network: smooth, nonlinear, different at every timestep."""
    return torch.tanh(0.7 * latents + timestep / 1000) * 0.8


@pytest.mark.parametrize("steps", [1, 2, 7, 20, 50])
def test_whole_timesteps_of_a_flow_are_stepped_as_diffusers_steps_their_sigmas(steps: int) -> None:
    oracle = FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000)
    start = torch.randn(2, 4, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    plan = build_plan(SCHEDULE, "flow_euler", steps)
    sigmas = [float(SCHEDULE.sigma[int(timestep)]) for timestep in plan.timesteps]
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
    # LCM leaves a trace of the latent it came from: its boundary condition is exact at timestep 0 alone.
    torch.testing.assert_close(end, picture, atol=1e-4 if sampler == "lcm" else 1e-12, rtol=0)


@pytest.mark.parametrize(("sampler", "steps"), [("dpmpp_2m", 20), ("heun", 10)])
def test_a_second_order_sampler_lands_nearer_to_the_exact_solution(sampler: str, steps: int) -> None:
    """For Gaussian data N(mean, spread^2) the best denoiser and the flow's end point are known in closed form."""
    mean, spread = 0.3, 0.5

    def posterior_mean(latents: torch.Tensor, timestep: float) -> torch.Tensor:
        alpha, sigma = SCHEDULE.alpha[int(timestep)], SCHEDULE.sigma[int(timestep)]
        return (alpha * spread**2 * latents + sigma**2 * mean) / (alpha**2 * spread**2 + sigma**2)

    start = torch.randn(4, 4, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    exact = mean + spread * start
    error = {
        name: (follow(build_plan(SCHEDULE, name, count), start, posterior_mean) - exact).norm()
        for name, count in (("ddim", 20), (sampler, steps))
    }
    assert error[sampler] < 0.5 * error["ddim"]
    assert error["ddim"] < 0.1 * exact.norm()


@given(st.sampled_from(SAMPLER_NAMES), st.sampled_from(SCHEDULES), st.integers(1, 50), st.floats(0, 1))
def test_every_plan_falls_to_the_data(sampler: str, schedule: Schedule, steps: int, strength: float) -> None:
    plan = build_plan(schedule, sampler, steps, strength=strength, prediction="v_prediction")
    kept = round(steps * strength)
    assert len(plan) == (max(2 * kept - 1, 0) if sampler == "heun" else kept)
    falls_to_the_data(plan)


@given(
    st.sampled_from(SAMPLER_NAMES),
    st.sampled_from(SCHEDULES),
    st.lists(st.integers(1, 20), min_size=1, max_size=4).map(lambda counts: ",".join(map(str, counts)))
    | st.sampled_from(["ddim25", "fast27"]),
)
def test_every_respaced_plan_falls_to_the_data(sampler: str, schedule: Schedule, respacing: str) -> None:
    plan = build_plan(schedule, sampler, 9, respacing=respacing, prediction="v_prediction")
    timesteps = len(space_timesteps(1000, respacing))
    assert len(plan) == (2 * timesteps - 1 if sampler == "heun" else timesteps)
    falls_to_the_data(plan)


def falls_to_the_data(plan: Plan) -> None:
    assert np.isfinite(plan.table).all()
    if not len(plan):
        return
    # Heun looks twice at every stop but the first.
    every = 2 if plan.sampler == "heun" else 1
    levels = np.array([plan.start_sigma, *(sigma for _, sigma in plan.reached[::every])])
    assert (np.diff(levels) < 0).all()
    assert plan.reached[-1] == (1.0, 0.0)
    # DPM-Solver is shown whole timesteps, of which stops close to the data may share one, though never a level.
    stops = np.diff(plan.timesteps[::every])
    assert (stops <= 0).all() if plan.sampler.startswith("dpmpp") else (stops < 0).all()
    *_, latent, picture, earlier, noise, most = plan.table[-1]
    assert noise == most == 0
    if plan.sampler == "lcm":
        # The boundary condition: what is not the network's answer is the latent itself, all of it at timestep 0.
        assert latent + picture**2 == pytest.approx(1)
    else:
        # Nothing of the noisy latent is kept; what is taken of this step's and the last picture adds up to one.
        assert latent == pytest.approx(0, abs=1e-12)
        assert picture + earlier == pytest.approx(1)


def test_strength_keeps_the_least_noisy_steps() -> None:
    whole = build_plan(SCHEDULE, "ddim", 10)
    half = build_plan(SCHEDULE, "ddim", 10, strength=0.5)
    assert half.timesteps == whole.timesteps[5:]
    assert half.start_sigma == pytest.approx(0.5)
    assert half.start_alpha == pytest.approx(0.5)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_prediction_type_says_the_same_of_one_picture(schedule: Schedule) -> None:
    picture, noise = 0.3, -1.7
    whole = build_plan(schedule, "dpmpp_2m", 10, strength=0.9)
    alpha, sigma = whole.start_alpha, whole.start_sigma
    outputs = {"sample": picture, "epsilon": noise, "flow": noise - picture}
    if not schedule.flow:  # v is the velocity on a circle, which a flow does not walk
        outputs["v_prediction"] = alpha * noise - sigma * picture
    for prediction, output in outputs.items():
        plan = build_plan(schedule, "dpmpp_2m", 10, strength=0.9, prediction=prediction)
        P, Q, *update = plan.table[0]
        assert P * (alpha * picture + sigma * noise) + Q * output == pytest.approx(picture)
        assert update == list(whole.table[0][2:])


def test_the_latent_is_what_sigma_space_samplers_scale_for_the_network() -> None:
    """x = alpha x0 + sigma noise is k-diffusion's y = x0 + level noise, scaled by 1 / sqrt(level^2 + 1)."""
    schedule = vp_schedule(make_betas("scaled_linear", start=0.00085, end=0.012))
    picture, noise = 0.3, -1.7
    scaled = (picture + schedule.level * noise) / np.sqrt(schedule.level**2 + 1)
    np.testing.assert_allclose(schedule.alpha * picture + schedule.sigma * noise, scaled)


def test_pure_noise_says_nothing_to_a_network_that_predicts_noise() -> None:
    schedule = vp_schedule(make_betas("linear"), spacing="trailing", zero_terminal_snr=True)
    with pytest.raises(ValueError, match="only noise"):
        build_plan(schedule, "ddim", 10, prediction="epsilon")


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"eta": 1.5}, "eta must be from 0 to 1"),
        ({"prediction": "score"}, "no prediction type named 'score'"),
        ({"sampler": "ddpm", "variance": "learned"}, "no variance named 'learned'"),
        ({"steps": 1001}, "1001 steps cannot be had from 1000 timesteps"),
        ({"sampler": "lcm", "steps": 51}, "LCM takes at most 50"),
    ],
)
def test_what_cannot_be_is_refused(fields: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        build_plan(SCHEDULE, **({"sampler": "ddim", "steps": 10} | fields))


def test_the_interface_offers_exactly_these_samplers() -> None:
    assert SAMPLERS == SAMPLER_NAMES


def test_an_unknown_sampler_is_refused() -> None:
    with pytest.raises(ValueError, match="no sampler named 'plms'"):
        build_plan(SCHEDULE, "plms", 10)
