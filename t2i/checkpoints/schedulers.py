"""What a diffusers scheduler_config.json says: the schedule, what the network predicts, and how it is best sampled."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from t2i.api import CheckpointError
from t2i.checkpoints.files import number
from t2i.diffusion.plan import Prediction
from t2i.diffusion.schedule import Schedule, Spacing, flow_schedule, make_betas, vp_schedule

Config = Mapping[str, Any]

_SAMPLERS = {
    "DDIMScheduler": "ddim",
    "PNDMScheduler": "ddim",
    "DDPMScheduler": "ddpm",
    "EulerDiscreteScheduler": "euler",
    "EulerAncestralDiscreteScheduler": "euler_a",
    "HeunDiscreteScheduler": "heun",
    "DPMSolverMultistepScheduler": "dpmpp_2m",
    "DPMSolverSinglestepScheduler": "dpmpp_2m",
    "UniPCMultistepScheduler": "dpmpp_2m",
    "LCMScheduler": "lcm",
    "TCDScheduler": "lcm",
    "FlowMatchEulerDiscreteScheduler": "flow_euler",
}
_SPACED_LEADING = ("DDIMScheduler", "PNDMScheduler", "DDPMScheduler", "LCMScheduler", "TCDScheduler")
"""Schedulers whose timesteps are "leading" where the config says nothing; all others take "linspace"."""
_DISTILLED_NAME = re.compile(
    r"(?:(?<![A-Za-z])(?i:turbo|lightning|lcm|hyper(?=\W|_|sd|$))|Turbo|Lightning|LCM)(?![a-z])"
)
"""A word of a file's name, set off by anything but letters or by its capital."""


class Sampling(NamedTuple):
    """`sampler` is the one that the scheduler's class names."""

    schedule: Schedule
    prediction: Prediction
    sampler: str


class Choice(NamedTuple):
    """What a request leaves open."""

    sampler: str
    steps: int
    guidance_scale: float


def read_scheduler(config: Config) -> Sampling:
    """The schedule of a diffusers scheduler config. A class that is not known is read by its betas.

    `set_alpha_to_one` is not followed: tables always end at the data. A flow schedule with dynamic shifting is returned
    unshifted (see `dynamic_shift`). Raises CheckpointError for what cannot be followed.
    """
    name = str(config.get("_class_name"))
    if name == "FlowMatchEulerDiscreteScheduler" or config.get("use_flow_sigmas"):
        return _read_flow(config)
    _refuse(config, name, "trained_betas", "use_beta_sigmas", "use_lu_lambdas")
    if name not in _SAMPLERS and "beta_start" not in config:
        raise CheckpointError(f"The scheduler {name} is not known, and its config states no betas.")
    zero_snr = bool(config.get("rescale_betas_zero_snr"))
    try:
        betas = make_betas(
            config.get("beta_schedule", "linear"),
            _timesteps(config),
            start=number(config, "beta_start", 0.0001),
            end=number(config, "beta_end", 0.02),
        )
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"The betas of {name} cannot be followed: {error}") from error
    schedule = vp_schedule(
        betas,
        zero_terminal_snr=zero_snr,
        spacing=_spacing(config, name),
        steps_offset=int(number(config, "steps_offset", 0)),
    )
    return Sampling(schedule, _prediction(config, name, zero_snr), sampler_of(config))


def sampler_of(config: Config) -> str:
    """The sampler that a scheduler config names by its class."""
    sampler = _SAMPLERS.get(str(config.get("_class_name")), "euler")
    return "dpmpp_2m_karras" if sampler == "dpmpp_2m" and config.get("use_karras_sigmas") else sampler


def dynamic_shift(config: Config, image_seq_len: int) -> float:
    """The shift of a flow schedule for pictures of `image_seq_len` tokens: exp(mu), mu linear between base_shift and
    max_shift, as FLUX was trained; the constant shift where the config does not ask for a dynamic one."""
    if not config.get("use_dynamic_shifting"):
        return number(config, "shift", 1.0, least=0.01)
    least, most = number(config, "base_image_seq_len", 256), number(config, "max_image_seq_len", 4096)
    low, high = number(config, "base_shift", 0.5), number(config, "max_shift", 1.15)
    return math.exp(low + (high - low) * (image_seq_len - least) / (most - least))


def choose(family: str, config: Config, *, embedded_guidance: bool = False) -> Choice:
    """Sampler, steps and guidance for a checkpoint of a stepped family (sd, sdxl, sd3, flux).

    Few steps without guidance where the scheduler is that of a distilled network: LCM's or TCD's, or on SD and SDXL
    Euler's with trailing timesteps (Turbo, Lightning).
    """
    if family == "sd3":
        return Choice("flow_euler", 28, 7.0)
    if family == "flux":
        return Choice("flow_euler", 28, 3.5) if embedded_guidance else Choice("flow_euler", 4, 1.0)
    sampling = read_scheduler(config)
    zero_snr = bool(config.get("rescale_betas_zero_snr"))
    euler = sampling.sampler in ("euler", "euler_a") and sampling.prediction == "epsilon" and not zero_snr
    if sampling.sampler == "lcm" or (euler and config.get("timestep_spacing") == "trailing"):
        return Choice(sampling.sampler, 4, 1.0)
    # Karras' noise levels need an end; with zero terminal SNR there is none.
    sampler = "euler" if zero_snr else "dpmpp_2m_karras"
    return Choice(sampler, 25, 5.0 if family == "sdxl" else 7.0)


def for_single_file(config: dict[str, Any], name: str, prediction_type: str | None) -> dict[str, Any]:
    """The scheduler config of a file that brings none: the shipped one, with what the file's name tells of distilled
    networks and the prediction type where it is known."""
    distilled = _DISTILLED_NAME.search(name)
    if prediction_type is not None:
        config = {**config, "prediction_type": prediction_type}
    if distilled is None:
        return config
    if distilled[0].lower() == "lcm":
        return {**config, "_class_name": "LCMScheduler"}
    return {**config, "_class_name": "EulerDiscreteScheduler", "timestep_spacing": "trailing"}


def _read_flow(config: Config) -> Sampling:
    name = str(config.get("_class_name"))
    _refuse(config, name, "use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "invert_sigmas")
    _refuse(config, name, "stochastic_sampling", "shift_terminal")
    if config.get("use_dynamic_shifting"):
        if config.get("time_shift_type", "exponential") != "exponential":
            raise CheckpointError(f"{name} asks for a {config['time_shift_type']} time shift, which is not supported.")
        shift = 1.0
    else:
        shift = number(config, "shift", number(config, "flow_shift", 1.0, least=0.01), least=0.01)
    schedule = flow_schedule(_timesteps(config), reads_sigma=True, spacing="linspace", shift=shift)
    return Sampling(schedule, "flow", "flow_euler")


def _timesteps(config: Config) -> int:
    return int(number(config, "num_train_timesteps", 1000, least=1))


def _spacing(config: Config, name: str) -> Spacing:
    if config.get("use_karras_sigmas"):
        return "karras"
    if config.get("use_exponential_sigmas"):
        return "exponential"
    spacing = config.get("timestep_spacing", "leading" if name in _SPACED_LEADING else "linspace")
    if spacing not in ("trailing", "leading", "linspace"):
        raise CheckpointError(f"{name} asks for a timestep spacing {spacing!r}, which is not known.")
    return spacing  # type: ignore[no-any-return]


def _prediction(config: Config, name: str, zero_snr: bool) -> Prediction:
    prediction = config.get("prediction_type", "epsilon")
    if prediction not in ("epsilon", "v_prediction", "sample"):
        raise CheckpointError(f"{name} asks for a prediction type {prediction!r}, which is not known.")
    if prediction == "epsilon" and zero_snr:
        raise CheckpointError(
            f"{name} asks for zero terminal SNR, where a network that predicts the noise says nothing."
        )
    return prediction  # type: ignore[no-any-return]


def _refuse(config: Config, name: str, *options: str) -> None:
    for option in options:
        if config.get(option):
            raise CheckpointError(f"{name} asks for {option}, which is not supported.")
