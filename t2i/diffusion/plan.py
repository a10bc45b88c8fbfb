"""Samplers as tables of coefficients, computed in float64 before the first step.

Every evaluation of the network, under every sampler here, leads to

    d0 = limit(P x + Q out)            the clean picture this step believes in
    x' = A x + B d0 + C h + D z        h: the last step's d0, z: fresh noise

A network that learned the variance answers v in 0..1 for each pixel, and D^(1 - v) E^v takes the place of D. So
requests with different samplers, step counts and positions share one batch and one fused update. P and Q say what the
network predicts, A to E are the sampler (see `samplers`), and the schedule says where it stops.

UniPC does not fit: its corrector redoes the last step from where that began, a second latent to carry.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from t2i.diffusion import samplers
from t2i.diffusion.samplers import Update, Variance
from t2i.diffusion.schedule import (
    FloatArray,
    Levels,
    Schedule,
    lcm_timesteps,
    space_timesteps,
    spaced_sigmas,
    spaced_timesteps,
)

Prediction = Literal["epsilon", "v_prediction", "sample", "flow"]

SAMPLER_NAMES = ("ddpm", "ddim", "euler", "euler_a", "heun", "dpmpp_2m", "dpmpp_2m_karras", "lcm", "flow_euler")

_BY_TIMESTEP = ("ddpm", "ddim", "lcm")
_DPMPP = ("dpmpp_2m", "dpmpp_2m_karras")


class Coefficients(NamedTuple):
    P: float
    Q: float
    A: float
    B: float
    C: float
    D: float
    E: float


@dataclass(frozen=True, slots=True)
class Plan:
    """`timesteps` [n] for the network, noisiest first; `table` [n, 7], a row of Coefficients for each.

    The first latents are start_alpha * picture + start_sigma * noise, and start_scale * noise without a picture.
    After step i they are at `reached[i]`: alpha * picture + sigma * noise.
    """

    sampler: str
    timesteps: tuple[float, ...]
    table: FloatArray
    reached: tuple[tuple[float, float], ...]
    start_alpha: float
    start_sigma: float
    start_scale: float
    strength: float = 1.0
    """The share of the schedule that is drawn; 1 knows nothing of a picture."""

    def __len__(self) -> int:
        return len(self.timesteps)


def build_plan(
    schedule: Schedule,
    sampler: str,
    steps: int,
    *,
    respacing: str | None = None,
    strength: float = 1.0,
    prediction: Prediction = "sample",
    eta: float = 0.0,
    variance: Variance = "fixed_small",
) -> Plan:
    """The table of a sampler for a network that predicts the noise, the velocity of either kind or the picture.

    `respacing` names the timesteps (see `space_timesteps`) in place of `steps` and of any other spacing; `strength`
    keeps only that share of the steps, the least noisy ones. `eta` is the noise of "ddim", `variance` that of "ddpm".
    "heun" evaluates the network 2 n - 1 times for n steps. Raises ValueError for what cannot be.
    """
    if sampler not in SAMPLER_NAMES:
        raise ValueError(f"There is no sampler named {sampler!r}; choose one of {', '.join(SAMPLER_NAMES)}.")
    if not 0 <= eta <= 1:
        raise ValueError(f"eta must be from 0 to 1, not {eta}.")
    levels = _choose_levels(schedule, sampler, steps, respacing)
    levels = levels.last(round(len(levels.timesteps) * strength))
    updates = _updates(schedule, sampler, levels, eta, variance)
    stops = np.arange(len(levels.timesteps))
    reached = stops + 1
    if sampler == "heun":  # looks twice at every stop but the first, and moves on at the second look
        stops, reached = np.repeat(stops, 2)[1:], np.repeat(reached, 2)[:-1]
    rows = [
        Coefficients(*_read(prediction, levels.alpha[stop], levels.sigma[stop]), A, B, C, D, D if E is None else E)
        for stop, (A, B, C, D, E) in zip(stops, updates, strict=True)
    ]
    return Plan(
        sampler,
        tuple(levels.timesteps[stops].tolist()),
        np.array(rows, dtype=np.float64).reshape(len(rows), len(Coefficients._fields)),
        tuple(zip(levels.alpha[reached].tolist(), levels.sigma[reached].tolist(), strict=True)),
        float(levels.alpha[0]),
        float(levels.sigma[0]),
        _start_scale(schedule, sampler, float(levels.sigma[0])),
        strength,
    )


def _choose_levels(schedule: Schedule, sampler: str, steps: int, respacing: str | None) -> Levels:
    """Where a sampler stops: where diffusers' scheduler of that name does under the same spacing."""
    spacing = "karras" if sampler == "dpmpp_2m_karras" else schedule.spacing
    timesteps: Sequence[float] | FloatArray
    if respacing is not None:
        timesteps = space_timesteps(schedule.num_timesteps, respacing)
    elif sampler == "lcm":
        timesteps = lcm_timesteps(schedule.num_timesteps, steps)
    elif schedule.reads_sigma or spacing in ("karras", "exponential"):
        levels = schedule.at_levels(spaced_sigmas(schedule, steps, spacing))
        # diffusers shows DPM-Solver whole timesteps, though two near the data may then be the same.
        whole = sampler in _DPMPP and not schedule.reads_sigma
        return levels._replace(timesteps=np.round(levels.timesteps)) if whole else levels
    elif sampler in _DPMPP and spacing != "trailing":
        # DPM-Solver counts the data as a stop.
        timesteps = spaced_timesteps(schedule.num_timesteps, steps + 1, spacing, schedule.steps_offset)[1:].round()
    else:
        timesteps = spaced_timesteps(schedule.num_timesteps, steps, spacing, schedule.steps_offset)
    return schedule.at_timesteps(timesteps) if sampler in _BY_TIMESTEP else schedule.between_timesteps(timesteps)


def _updates(schedule: Schedule, sampler: str, levels: Levels, eta: float, variance: Variance) -> list[Update]:
    match sampler:
        case "ddpm":
            return samplers.ddpm(levels, variance)
        case "euler_a":
            return samplers.ddim(levels, eta=1.0)
        case "heun":
            return samplers.heun(levels, schedule.flow)
        case "dpmpp_2m" | "dpmpp_2m_karras":
            return samplers.dpmpp_2m(levels)
        case "lcm":
            return samplers.lcm(levels)
    return samplers.ddim(levels, eta if sampler == "ddim" else 0.0)


def _read(prediction: Prediction, alpha: float, sigma: float) -> tuple[float, float]:
    """P and Q: the picture x0 from x = alpha x0 + sigma noise and the network's output."""
    match prediction:
        case "sample":
            return 0.0, 1.0
        case "epsilon" if alpha > 0:  # the noise
            return 1 / alpha, -sigma / alpha
        case "epsilon":
            raise ValueError("A network that predicts the noise says nothing of the picture where there is only noise.")
        case "v_prediction":  # alpha noise - sigma x0 (Salimans 2022, appendix D)
            return alpha / (alpha**2 + sigma**2), -sigma / (alpha**2 + sigma**2)
        case "flow":  # noise - x0 (Liu 2022)
            return 1 / (alpha + sigma), -sigma / (alpha + sigma)
    raise ValueError(f"There is no prediction type named {prediction!r}.")


def _start_scale(schedule: Schedule, sampler: str, sigma: float) -> float:
    """Noise alone stands in for a very noisy picture: of variance 1, or sigma^2 for diffusers' sigma-space samplers."""
    by_sigma = sampler not in (*_BY_TIMESTEP, *_DPMPP) and schedule.spacing != "leading"
    return sigma if schedule.flow or by_sigma else 1.0
