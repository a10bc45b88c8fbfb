"""Scheduler configs against the tables of diffusers' own schedulers, and what is chosen where requests say nothing."""

from __future__ import annotations

import math
from typing import Any

import diffusers
import numpy as np
import pytest

from t2i.api import CheckpointError
from t2i.checkpoints.schedulers import choose, dynamic_shift, for_single_file, read_scheduler

BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


def config_of(name: str, **options: Any) -> dict[str, Any]:
    """As diffusers writes it to scheduler_config.json."""
    return dict(getattr(diffusers, name)(**options).config) | {"_class_name": name}


@pytest.mark.parametrize(
    ("name", "sampler"),
    [
        ("DDIMScheduler", "ddim"),
        ("PNDMScheduler", "ddim"),
        ("DDPMScheduler", "ddpm"),
        ("EulerDiscreteScheduler", "euler"),
        ("EulerAncestralDiscreteScheduler", "euler_a"),
        ("HeunDiscreteScheduler", "heun"),
        ("DPMSolverMultistepScheduler", "dpmpp_2m"),
        ("UniPCMultistepScheduler", "dpmpp_2m"),
        ("LCMScheduler", "lcm"),
        ("TCDScheduler", "lcm"),
        ("DEISMultistepScheduler", "euler"),
    ],
)
def test_every_scheduler_gives_its_own_table_and_the_nearest_sampler(name: str, sampler: str) -> None:
    config = config_of(name, **BETAS)
    read = read_scheduler(config)
    assert read.sampler == sampler
    cumulative = getattr(diffusers, name).from_config(config).alphas_cumprod.double().numpy()
    np.testing.assert_allclose(read.schedule.alpha**2, cumulative, rtol=1e-4)
    np.testing.assert_allclose(read.schedule.sigma**2, 1 - cumulative, rtol=2e-3)


@pytest.mark.parametrize("betas", ["linear", "scaled_linear", "squaredcos_cap_v2"])
def test_zero_terminal_snr_is_followed_with_any_betas(betas: str) -> None:
    config = config_of(
        "DDIMScheduler", beta_schedule=betas, rescale_betas_zero_snr=True, prediction_type="v_prediction"
    )
    schedule, prediction, _ = read_scheduler(config)
    theirs = diffusers.DDIMScheduler.from_config(config).alphas_cumprod.double().numpy()
    np.testing.assert_allclose(schedule.alpha**2, theirs, rtol=1e-4, atol=1e-9)
    assert schedule.alpha[-1] == 0
    assert prediction == "v_prediction"


@pytest.mark.parametrize("name", ["DDIMScheduler", "EulerDiscreteScheduler", "DPMSolverMultistepScheduler"])
def test_the_spacing_is_the_schedulers_own_where_the_config_says_nothing(name: str) -> None:
    spacing = config_of(name)["timestep_spacing"]
    bare = {"_class_name": name, **BETAS}
    assert read_scheduler(bare).schedule.spacing == spacing
    assert read_scheduler({**bare, "timestep_spacing": "trailing"}).schedule.spacing == "trailing"


def test_offsets_and_sigma_spacings_are_followed() -> None:
    assert read_scheduler(config_of("DDIMScheduler", steps_offset=1)).schedule.steps_offset == 1
    karras = read_scheduler(config_of("DPMSolverMultistepScheduler", use_karras_sigmas=True))
    assert (karras.schedule.spacing, karras.sampler) == ("karras", "dpmpp_2m_karras")
    exponential = read_scheduler(config_of("EulerDiscreteScheduler", use_exponential_sigmas=True))
    assert (exponential.schedule.spacing, exponential.sampler) == ("exponential", "euler")


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_a_flow_is_shifted_as_diffusers_does(shift: float) -> None:
    config = config_of("FlowMatchEulerDiscreteScheduler", shift=shift)
    read = read_scheduler(config)
    theirs = diffusers.FlowMatchEulerDiscreteScheduler.from_config(config).sigmas.double().numpy()[::-1]
    np.testing.assert_allclose(read.schedule.sigma, theirs, rtol=1e-6)
    assert (read.prediction, read.sampler, read.schedule.shift) == ("flow", "flow_euler", shift)
    assert dynamic_shift(config, 4096) == shift


@pytest.mark.parametrize("tokens", [256, 1024, 4096])
def test_a_dynamic_shift_is_that_of_flux(tokens: int) -> None:
    from diffusers.pipelines.flux.pipeline_flux import calculate_shift

    config = config_of("FlowMatchEulerDiscreteScheduler", use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15)
    mu = calculate_shift(tokens, config["base_image_seq_len"], config["max_image_seq_len"], 0.5, 1.15)
    assert dynamic_shift(config, tokens) == pytest.approx(math.exp(mu))
    assert read_scheduler(config).schedule.shift == 1.0


@pytest.mark.parametrize(
    ("name", "option", "message"),
    [
        ("DDIMScheduler", {"trained_betas": [0.1, 0.2]}, "DDIMScheduler asks for trained_betas"),
        ("EulerDiscreteScheduler", {"use_beta_sigmas": True}, "asks for use_beta_sigmas"),
        ("DDIMScheduler", {"prediction_type": "score"}, "prediction type 'score', which is not known"),
        ("DDIMScheduler", {"timestep_spacing": "random"}, "timestep spacing 'random', which is not known"),
        ("DDIMScheduler", {"beta_schedule": "sigmoid"}, "The betas of DDIMScheduler cannot be followed"),
        ("DDIMScheduler", {"rescale_betas_zero_snr": True}, "zero terminal SNR"),
        ("EDMEulerScheduler", {}, "The scheduler EDMEulerScheduler is not known"),
        ("FlowMatchEulerDiscreteScheduler", {"use_karras_sigmas": True}, "asks for use_karras_sigmas"),
        ("FlowMatchEulerDiscreteScheduler", {"shift_terminal": 0.1}, "asks for shift_terminal"),
        (
            "FlowMatchEulerDiscreteScheduler",
            {"use_dynamic_shifting": True, "time_shift_type": "linear"},
            "asks for a linear time shift",
        ),
    ],
)
def test_what_cannot_be_followed_is_refused(name: str, option: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_scheduler({"_class_name": name, **option})


@pytest.mark.parametrize(
    ("family", "scheduler", "options", "choice"),
    [
        ("sd", "PNDMScheduler", {}, ("dpmpp_2m_karras", 25, 7.0)),
        ("sd", "DDIMScheduler", {"prediction_type": "v_prediction"}, ("dpmpp_2m_karras", 25, 7.0)),
        ("sdxl", "EulerDiscreteScheduler", {"timestep_spacing": "leading"}, ("dpmpp_2m_karras", 25, 5.0)),
        ("sdxl", "EulerAncestralDiscreteScheduler", {"timestep_spacing": "trailing"}, ("euler_a", 4, 1.0)),
        ("sd", "EulerDiscreteScheduler", {"timestep_spacing": "trailing"}, ("euler", 4, 1.0)),
        ("sdxl", "LCMScheduler", {}, ("lcm", 4, 1.0)),
        (
            "sdxl",
            "EulerDiscreteScheduler",
            {"timestep_spacing": "trailing", "prediction_type": "v_prediction", "rescale_betas_zero_snr": True},
            ("euler", 25, 5.0),
        ),
        ("sd3", "FlowMatchEulerDiscreteScheduler", {"shift": 3.0}, ("flow_euler", 28, 7.0)),
        ("flux", "FlowMatchEulerDiscreteScheduler", {}, ("flow_euler", 4, 1.0)),
    ],
)
def test_distilled_networks_take_few_steps_and_no_guidance(
    family: str, scheduler: str, options: dict[str, Any], choice: tuple[str, int, float]
) -> None:
    assert choose(family, config_of(scheduler, **options)) == choice


def test_a_flux_that_is_told_its_guidance_takes_more_steps() -> None:
    config = config_of("FlowMatchEulerDiscreteScheduler")
    assert choose("flux", config, embedded_guidance=True) == ("flow_euler", 28, 3.5)


@pytest.mark.parametrize(
    ("name", "sampler", "steps"),
    [
        ("sd_xl_turbo_1.0_fp16", "euler", 4),
        ("juggernautXL_v9Rdphoto2Lightning", "euler", 4),
        ("dreamshaper_8LCM", "lcm", 4),
        ("sdxl_lightning_4step", "euler", 4),
        ("realvisxlV50_v50LightningBakedvae", "euler", 4),
        ("Hyper-SDXL-4steps", "euler", 4),
        ("hyperRealism_v3", "dpmpp_2m_karras", 25),
        ("turbocharged", "dpmpp_2m_karras", 25),
        ("plain", "dpmpp_2m_karras", 25),
    ],
)
def test_single_files_tell_by_their_names_that_they_are_distilled(name: str, sampler: str, steps: int) -> None:
    config = for_single_file(config_of("PNDMScheduler", **BETAS), name, None)
    choice = choose("sd", config)
    assert (choice.sampler, choice.steps) == (sampler, steps)
