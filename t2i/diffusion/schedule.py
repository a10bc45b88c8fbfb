"""Noise schedules and where a sampler stops on them: plain float64 tables, no weights and no device.

Latents are x = alpha x0 + sigma noise throughout. k-diffusion and diffusers' sigma-space schedulers carry y = x / alpha
instead, at the noise level sigma / alpha, and show the network y / sqrt(level^2 + 1), which is x again wherever
alpha^2 + sigma^2 = 1. So one parametrisation serves both and no input is ever scaled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
BetaSchedule = Literal["linear", "scaled_linear", "squaredcos_cap_v2"]
Spacing = Literal["trailing", "leading", "linspace", "karras", "exponential"]

LEAST_ALPHA = 2.0**-12
"""alpha of pure noise for samplers that divide by it: a zero-terminal-SNR schedule then ends at level 4096, as in
diffusers."""


class Levels(NamedTuple):
    """The stops of a sampler: `timesteps` [n] as the network reads them, noisiest first; `alpha` and `sigma` [n + 1],
    of which the last are those of the data, 1 and 0."""

    timesteps: FloatArray
    alpha: FloatArray
    sigma: FloatArray

    def last(self, count: int) -> Levels:
        """The `count` least noisy stops, and the data."""
        start = len(self.timesteps) - count
        return Levels(self.timesteps[start:], self.alpha[start:], self.sigma[start:])


@dataclass(frozen=True, slots=True)
class Schedule:
    """x_k = alpha[k] x0 + sigma[k] noise for k = 0 (least noisy) .. num_timesteps - 1, and how samplers walk down it.

    On a `flow` alpha + sigma = 1, elsewhere alpha^2 + sigma^2 = 1. Networks that `reads_sigma` are told num_timesteps *
    sigma (SD3, FLUX), others the index k. `spacing`, `steps_offset` and `shift` are those of diffusers' configs.
    """

    alpha: FloatArray
    sigma: FloatArray
    flow: bool = False
    reads_sigma: bool = False
    spacing: Spacing = "trailing"
    steps_offset: int = 0
    shift: float = 1.0

    @property
    def num_timesteps(self) -> int:
        return len(self.alpha)

    @property
    def level(self) -> FloatArray:
        """What sigma spacings space, ascending: k-diffusion's sigma, finite everywhere; on a flow its own sigma."""
        return self.sigma if self.flow else self.sigma / np.maximum(self.alpha, LEAST_ALPHA)

    def at_timesteps(self, timesteps: Sequence[float] | FloatArray) -> Levels:
        """Stops at ascending timesteps, rounded to whole ones, exactly as the table has them."""
        index = np.asarray(timesteps, dtype=np.float64).round().astype(np.int64)[::-1]
        return self._stops(index.astype(np.float64), self.alpha[index], self.sigma[index])

    def between_timesteps(self, timesteps: Sequence[float] | FloatArray) -> Levels:
        """Stops at ascending timesteps, whole or not: between two entries the level is linear in the timestep."""
        falling = np.asarray(timesteps, dtype=np.float64)[::-1]
        levels = np.interp(falling, np.arange(self.num_timesteps), self.level)
        stops = self.at_levels(levels)
        return stops if self.reads_sigma else stops._replace(timesteps=falling)

    def at_levels(self, levels: FloatArray) -> Levels:
        """Stops at falling noise levels. Where the network reads timesteps, the logarithm of the level is linear in
        them, on a flow the level itself."""
        table, wanted = (self.level, levels) if self.flow else (np.log(self.level), np.log(levels))
        timesteps = np.interp(wanted, table, np.arange(self.num_timesteps))
        alpha = 1 - levels if self.flow else 1 / np.sqrt(levels**2 + 1)
        return self._stops(timesteps, alpha, levels if self.flow else levels * alpha)

    def _stops(self, timesteps: FloatArray, alpha: FloatArray, sigma: FloatArray) -> Levels:
        if self.reads_sigma:
            timesteps = self.num_timesteps * sigma
        return Levels(timesteps, np.append(alpha, 1.0), np.append(sigma, 0.0))


def make_betas(
    kind: BetaSchedule, num_timesteps: int = 1000, *, start: float = 0.0001, end: float = 0.02
) -> FloatArray:
    """Variance added at each timestep: linear (Ho 2020, §4), scaled_linear (Rombach 2022), squaredcos_cap_v2 (Nichol
    2021, eq. 17), which knows no start and end. Raises ValueError for another name."""
    if kind == "linear":
        return np.linspace(start, end, num_timesteps)
    if kind == "scaled_linear":
        return np.square(np.linspace(start**0.5, end**0.5, num_timesteps))
    if kind == "squaredcos_cap_v2":
        t = np.linspace(0, 1, num_timesteps + 1)
        alpha_bar = np.square(np.cos((t + 0.008) / 1.008 * np.pi / 2))
        return np.minimum(1 - alpha_bar[1:] / alpha_bar[:-1], 0.999)
    raise ValueError(f"There is no beta schedule named {kind!r}.")


def vp_schedule(
    betas: FloatArray,
    *,
    zero_terminal_snr: bool = False,
    spacing: Spacing = "leading",
    steps_offset: int = 0,
) -> Schedule:
    """The variance-preserving schedule of betas [num_timesteps]: alpha^2 + sigma^2 = 1.

    `zero_terminal_snr` stretches it so that the last timestep is pure noise (Lin 2023, algorithm 1).
    """
    alpha = np.sqrt(np.cumprod(1 - betas))
    if zero_terminal_snr:
        alpha = (alpha - alpha[-1]) * (alpha[0] / (alpha[0] - alpha[-1]))
    return Schedule(alpha, np.sqrt(1 - alpha**2), spacing=spacing, steps_offset=steps_offset)


def flow_schedule(
    num_timesteps: int = 1000, *, reads_sigma: bool = False, spacing: Spacing = "trailing", shift: float = 1.0
) -> Schedule:
    """Rectified flow (Liu 2022): alpha = 1 - t and sigma = t, with t = (k + 1) / num_timesteps.

    `shift` leans it towards the noise, as larger pictures need (Esser 2024, §5.3.2).
    """
    t = shift_sigmas(np.arange(1, num_timesteps + 1, dtype=np.float64) / num_timesteps, shift)
    return Schedule(1 - t, t, flow=True, reads_sigma=reads_sigma, spacing=spacing, shift=shift)


def shift_sigmas(sigmas: FloatArray, shift: float) -> FloatArray:
    return sigmas if shift == 1.0 else shift * sigmas / (1 + (shift - 1) * sigmas)


def spaced_sigmas(schedule: Schedule, steps: int, spacing: Spacing) -> FloatArray:
    """`steps` falling noise levels, spaced by level instead of by timestep.

    "karras" are even in level^(1 / 7) (Karras 2022, eq. 5), "exponential" in its logarithm, both over the whole table.
    On a flow "trailing" runs from 1 through 1 / steps (FLUX) and "linspace" over the whole table (SD3), then shifted;
    the table of SD3 was already, and diffusers shifts it twice too. Raises ValueError for what cannot be.
    """
    lowest, highest = float(schedule.level[0]), float(schedule.level[-1])
    _within_schedule(schedule.num_timesteps, steps)
    if spacing == "karras":
        return np.power(np.linspace(highest ** (1 / 7), lowest ** (1 / 7), steps), 7.0)
    if spacing == "exponential":
        return np.exp(np.linspace(np.log(highest), np.log(lowest), steps))
    if spacing == "trailing" and schedule.flow:
        return shift_sigmas(np.linspace(1.0, 1 / steps, steps), schedule.shift)
    if spacing == "linspace" and schedule.flow:
        return shift_sigmas(np.linspace(highest, lowest, steps), schedule.shift)
    raise ValueError(f"There is no sigma spacing named {spacing!r}.")


def spaced_timesteps(num_timesteps: int, steps: int, spacing: Spacing, steps_offset: int = 0) -> FloatArray:
    """`steps` timesteps, ascending (Lin 2023, table 2); those of "linspace" may lie between two whole ones.

    Raises ValueError for more steps than there are timesteps.
    """
    if spacing == "trailing":
        return np.array(trailing_timesteps(num_timesteps, steps), dtype=np.float64)
    _within_schedule(num_timesteps, steps)
    if spacing == "linspace":
        return np.linspace(0, num_timesteps - 1, steps)
    if spacing == "leading":
        timesteps = np.arange(steps, dtype=np.float64) * (num_timesteps // steps) + steps_offset
        if timesteps[-1] >= num_timesteps:
            raise ValueError(f"{steps} steps with an offset of {steps_offset} run past {num_timesteps} timesteps.")
        return timesteps
    raise ValueError(f"There is no timestep spacing named {spacing!r}.")


def trailing_timesteps(num_timesteps: int, steps: int) -> list[int]:
    """`steps` timesteps, ascending, evenly spaced down from the noisiest (Lin 2023, §3.3)."""
    _within_schedule(num_timesteps, steps)
    return sorted({round(num_timesteps - i * num_timesteps / steps) - 1 for i in range(steps)})


def lcm_timesteps(num_timesteps: int, steps: int, distilled_steps: int = 50) -> list[int]:
    """`steps` of the timesteps that a latent consistency model was distilled on, ascending (Luo 2023, §4.3)."""
    stride = num_timesteps // distilled_steps
    if not 1 <= steps <= distilled_steps or stride == 0:
        raise ValueError(f"{steps} steps cannot be had: LCM takes at most {distilled_steps}, of as many timesteps.")
    return sorted(stride * (distilled_steps - i * distilled_steps // steps) - 1 for i in range(steps))


def _within_schedule(num_timesteps: int, steps: int) -> None:
    if not 1 <= steps <= num_timesteps:
        raise ValueError(f"{steps} steps cannot be had from {num_timesteps} timesteps.")


def space_timesteps(num_timesteps: int, spec: str) -> list[int]:
    """Timesteps, ascending, for a respacing string as GLIDE and guided-diffusion write it.

    "10,10,7" divides the schedule into equal sections, the first the least noisy, and takes so many timesteps from
    each, from its first through its last; "ddim25" strides evenly from 0; "fast27" is GLIDE's hand-tuned choice. Raises
    ValueError saying what cannot be.
    """
    if spec == "fast27":
        timesteps = space_timesteps(num_timesteps, "10,10,3,2,2")
        # The very noisiest timestep causes artefacts with few steps.
        return sorted({*timesteps, num_timesteps - 3} - {num_timesteps - 1})
    if spec.startswith("ddim"):
        return _strided(num_timesteps, _count(spec.removeprefix("ddim"), spec), spec)
    counts = [_count(part, spec) for part in spec.split(",")]
    size, extra = divmod(num_timesteps, len(counts))
    spaced: list[int] = []
    start = 0
    for index, count in enumerate(counts):
        section = size + (1 if index < extra else 0)
        if count > section:
            raise ValueError(f"A section of {section} timesteps cannot be divided into {count} steps ({spec!r}).")
        stride = (section - 1) / (count - 1) if count > 1 else 1.0
        spaced += [start + round(stride * i) for i in range(count)]
        start += section
    return spaced


def _strided(num_timesteps: int, count: int, spec: str) -> list[int]:
    for stride in range(1, num_timesteps):
        if len(range(0, num_timesteps, stride)) == count:
            return list(range(0, num_timesteps, stride))
    raise ValueError(f"No whole stride takes exactly {count} steps from {num_timesteps} timesteps ({spec!r}).")


def _count(text: str, spec: str) -> int:
    if not text.strip().isdecimal() or int(text) < 1:
        raise ValueError(f"{spec!r} is no respacing: write counts such as '27' or '10,10,7', 'ddim25' or 'fast27'.")
    return int(text)
