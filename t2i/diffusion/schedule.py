"""Noise schedules and the choice of timesteps: plain float64 tables, no weights and no device."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Schedule:
    """x_k = alpha[k] x0 + sigma[k] noise for timesteps k = 0 (least noisy) .. num_timesteps - 1."""

    alpha: FloatArray
    sigma: FloatArray

    @property
    def num_timesteps(self) -> int:
        return len(self.alpha)


def flow_schedule(num_timesteps: int = 1000) -> Schedule:
    """Rectified flow (Liu 2022): alpha = 1 - t and sigma = t, with t = (k + 1) / num_timesteps."""
    t = np.arange(1, num_timesteps + 1, dtype=np.float64) / num_timesteps
    return Schedule(1 - t, t)


def trailing_timesteps(num_timesteps: int, steps: int) -> list[int]:
    """`steps` timesteps, ascending, evenly spaced down from the noisiest (Lin 2023, §3.3)."""
    if not 1 <= steps <= num_timesteps:
        raise ValueError(f"{steps} steps cannot be had from {num_timesteps} timesteps.")
    return sorted({round(num_timesteps - i * num_timesteps / steps) - 1 for i in range(steps)})


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
