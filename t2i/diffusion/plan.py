"""Samplers as tables of coefficients, computed in float64 before the first step.

Every step of every sampler here has the form

    d0 = clamp(P x + Q out)            the clean picture this step believes in
    x' = A x + B d0 + C h + D z        h: the last step's d0, z: fresh noise

so requests with different samplers, step counts and positions share one batch and one fused update. Euler in sigma,
DDIM without noise and Euler on a rectified flow are the same line (Song 2020, "DDIM", §4.3); so are Euler ancestral,
DDPM and DDIM with eta = 1. They keep their usual names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from t2i.diffusion.schedule import FloatArray, Schedule, space_timesteps, trailing_timesteps

DETERMINISTIC = ("ddim", "euler", "flow_euler")
ANCESTRAL = ("ddpm", "euler_a")
SAMPLER_NAMES = (*DETERMINISTIC, *ANCESTRAL, "dpmpp_2m")


class Coefficients(NamedTuple):
    P: float
    Q: float
    A: float
    B: float
    C: float
    D: float


@dataclass(frozen=True, slots=True)
class Plan:
    """`timesteps` [n], noisiest first; `table` [n, 6], a row of Coefficients each; the noise level at the start."""

    sampler: str
    timesteps: tuple[int, ...]
    table: FloatArray
    start_alpha: float
    start_sigma: float

    def __len__(self) -> int:
        return len(self.timesteps)


def build_plan(
    schedule: Schedule, sampler: str, steps: int, *, respacing: str | None = None, strength: float = 1.0
) -> Plan:
    """The table of a sampler for a network that predicts x0.

    `respacing` replaces `steps` (see `space_timesteps`); `strength` keeps only that share of the steps, the least noisy
    ones. Raises ValueError for an unknown sampler or an impossible spacing.
    """
    if sampler not in SAMPLER_NAMES:
        raise ValueError(f"There is no sampler named {sampler!r}; choose one of {', '.join(SAMPLER_NAMES)}.")
    count = schedule.num_timesteps
    ascending = space_timesteps(count, respacing) if respacing else trailing_timesteps(count, steps)
    kept = round(len(ascending) * strength)
    timesteps = ascending[:kept][::-1]
    # The data itself is the last stop: alpha 1, sigma 0.
    alpha = np.append(schedule.alpha[timesteps], 1.0)
    sigma = np.append(schedule.sigma[timesteps], 0.0)
    if sampler == "dpmpp_2m":
        rows = _dpmpp_2m(alpha, sigma)
    else:
        eta = 1.0 if sampler in ANCESTRAL else 0.0
        rows = [_ddim(alpha[i], sigma[i], alpha[i + 1], sigma[i + 1], eta) for i in range(kept)]
    table = np.array(rows, dtype=np.float64).reshape(kept, len(Coefficients._fields))
    return Plan(sampler, tuple(timesteps), table, float(alpha[0]), float(sigma[0]))


def _ddim(alpha: float, sigma: float, next_alpha: float, next_sigma: float, eta: float) -> Coefficients:
    """DDIM (Song 2020, eq. 12) on any Gaussian path; eta = 1 draws from the posterior as DDPM does."""
    ratio = alpha / next_alpha
    noise = eta * next_sigma * np.sqrt(max(0.0, 1 - (ratio * next_sigma / sigma) ** 2))
    direction = np.sqrt(next_sigma**2 - noise**2) / sigma
    return Coefficients(P=0.0, Q=1.0, A=direction, B=next_alpha - direction * alpha, C=0.0, D=noise)


def _dpmpp_2m(alpha: FloatArray, sigma: FloatArray) -> list[Coefficients]:
    """DPM-Solver++(2M) (Lu 2022, algorithm 2); first order next to an infinite log-SNR: pure noise and the data."""
    with np.errstate(divide="ignore"):
        log_snr = np.log(alpha) - np.log(sigma)
    rows = []
    for i in range(len(alpha) - 1):
        first_order = _ddim(alpha[i], sigma[i], alpha[i + 1], sigma[i + 1], eta=0.0)
        if i == 0 or not np.isfinite(log_snr[i - 1]) or not np.isfinite(log_snr[i + 1]):
            rows.append(first_order)
            continue
        ratio = (log_snr[i + 1] - log_snr[i]) / (log_snr[i] - log_snr[i - 1])
        rows.append(first_order._replace(B=first_order.B * (1 + ratio / 2), C=-first_order.B * ratio / 2))
    return rows
