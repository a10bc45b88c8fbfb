"""The update of each sampler, x' = A x + B d0 + C h + D z, for stops that a plan has chosen.

Every function takes the Levels of n stops and answers one Update per network evaluation. Euler in sigma, DDIM without
noise and Euler on a rectified flow are the same line (Song 2020, "DDIM", §4.3); so are Euler ancestral, DDPM and DDIM
with eta = 1. They keep their usual names, and differ in where they stop.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np

from t2i.diffusion.schedule import Levels

Variance = Literal["fixed_small", "fixed_large", "learned_range"]

_SIGMA_DATA = 0.5
_TIMESTEP_SCALING = 10.0


class Update(NamedTuple):
    """`E` is the most noise that a network which learned the variance may choose, D then being the least."""

    A: float
    B: float
    C: float = 0.0
    D: float = 0.0
    E: float | None = None


def ddim(levels: Levels, eta: float) -> list[Update]:
    """DDIM (Song 2020, eq. 12) on any Gaussian path; eta = 1 draws from the posterior as DDPM does."""
    stops = pairwise(zip(levels.alpha, levels.sigma, strict=True))
    return [_ddim_step(alpha, sigma, next_alpha, next_sigma, eta) for (alpha, sigma), (next_alpha, next_sigma) in stops]


def ddpm(levels: Levels, variance: Variance) -> list[Update]:
    """Ancestral sampling (Ho 2020, algorithm 2) with the posterior's variance or, "fixed_large", the forward step's.

    "learned_range" is for networks that say for every pixel where between the two, in logarithms, the variance lies
    (Nichol 2021, eq. 15). Raises ValueError for another variance.
    """
    updates = ddim(levels, eta=1.0)
    if variance == "fixed_small":
        return updates
    if variance not in ("fixed_large", "learned_range"):
        raise ValueError(f"There is no variance named {variance!r}.")
    for i in range(len(updates) - 1):  # the last step adds no noise
        ratio = levels.alpha[i] / levels.alpha[i + 1]
        forward = np.sqrt(levels.sigma[i] ** 2 - (ratio * levels.sigma[i + 1]) ** 2)
        updates[i] = updates[i]._replace(**{"D" if variance == "fixed_large" else "E": forward})
    return updates


def heun(levels: Levels, flow: bool) -> list[Update]:
    """Heun's method (Karras 2022, algorithm 1) in y = x / alpha over s = sigma / alpha, on a flow in x over sigma.

    Every Euler step from s to s' but the last, to the data, is followed by a second look at s': 2 n - 1 evaluations.
    Seen from where the step led, both slopes point along (y' - d) / s', so the mean of them needs of the past only h,
    the d0 of the first look: the corrected y' is y' + (s / s' - 1) / 2 (d0 - h).
    """
    updates: list[Update] = []
    for i, euler in enumerate(ddim(levels, eta=0.0)):
        updates.append(euler)
        alpha, sigma = levels.alpha[i : i + 2], levels.sigma[i : i + 2]
        if sigma[1] > 0:
            scale, s = (1.0, sigma) if flow else (alpha[1], sigma / alpha)
            weight = scale * (s[0] / s[1] - 1) / 2
            updates.append(Update(A=1.0, B=weight, C=-weight))
    return updates


def dpmpp_2m(levels: Levels) -> list[Update]:
    """DPM-Solver++(2M) (Lu 2022, algorithm 2); first order next to an infinite log-SNR: pure noise and the data."""
    with np.errstate(divide="ignore"):
        log_snr = np.log(levels.alpha) - np.log(levels.sigma)
    updates = ddim(levels, eta=0.0)
    for i in range(1, len(updates)):
        if np.isfinite(log_snr[i - 1]) and np.isfinite(log_snr[i + 1]):
            ratio = (log_snr[i + 1] - log_snr[i]) / (log_snr[i] - log_snr[i - 1])
            B = updates[i].B
            updates[i] = updates[i]._replace(B=B * (1 + ratio / 2), C=-B * ratio / 2)
    return updates


def lcm(levels: Levels) -> list[Update]:
    """Latent consistency sampling (Luo 2023, algorithm 3): to the data and back up with fresh noise, n times.

    The boundary conditions (Song 2023, eq. 5, as diffusers scales them) make the answer x itself at timestep 0.
    """
    updates = []
    for timestep, alpha, sigma in zip(levels.timesteps, levels.alpha[1:], levels.sigma[1:], strict=True):
        time = timestep * _TIMESTEP_SCALING
        skip = _SIGMA_DATA**2 / (time**2 + _SIGMA_DATA**2)
        out = time / np.sqrt(time**2 + _SIGMA_DATA**2)
        updates.append(Update(A=alpha * skip, B=alpha * out, D=sigma))
    return updates


def _ddim_step(alpha: float, sigma: float, next_alpha: float, next_sigma: float, eta: float) -> Update:
    ratio = alpha / next_alpha
    noise = eta * next_sigma * np.sqrt(max(0.0, 1 - (ratio * next_sigma / sigma) ** 2))
    direction = np.sqrt(next_sigma**2 - noise**2) / sigma
    return Update(A=direction, B=next_alpha - direction * alpha, D=noise)
