"""diffusers' own pipelines as oracles: the same weights, noise and settings as this project's runner is given.

Noise that a scheduler adds on the way is drawn by this project's rule, from the seed and the step, because no two
libraries share one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline
from diffusers.schedulers import (
    scheduling_ddim,
    scheduling_ddpm,
    scheduling_dpmsolver_multistep,
    scheduling_euler_ancestral_discrete,
    scheduling_euler_discrete,
    scheduling_heun_discrete,
    scheduling_lcm,
)
from torch import Tensor

from t2i.api import GenerationRequest
from t2i.engine import runner
from t2i.engine.noise import seeded_noise
from t2i.families.model import Model

TOLERANCE = 1e-5
SEED = 11
PROMPT, NEGATIVE = "a red apple, on a table", "blurry"

SCHEDULERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "ddpm": (scheduling_ddpm.DDPMScheduler, {"clip_sample": False}),
    "ddim": (scheduling_ddim.DDIMScheduler, {"clip_sample": False}),
    "euler": (scheduling_euler_discrete.EulerDiscreteScheduler, {}),
    "euler_a": (scheduling_euler_ancestral_discrete.EulerAncestralDiscreteScheduler, {}),
    "heun": (scheduling_heun_discrete.HeunDiscreteScheduler, {}),
    "dpmpp_2m": (scheduling_dpmsolver_multistep.DPMSolverMultistepScheduler, {}),
    "dpmpp_2m_karras": (scheduling_dpmsolver_multistep.DPMSolverMultistepScheduler, {"use_karras_sigmas": True}),
    "lcm": (scheduling_lcm.LCMScheduler, {}),
}
NOISY = (scheduling_ddpm, scheduling_ddim, scheduling_euler_ancestral_discrete, scheduling_lcm)


@contextmanager
def one_noise() -> Iterator[None]:
    """Schedulers of diffusers draw what this project draws: by the seed and the step."""
    with pytest.MonkeyPatch.context() as patch:
        for module in NOISY:
            calls = count(1)

            def drawn(shape: torch.Size, calls: Iterator[int] = calls, **_: object) -> Tensor:
                return seeded_noise(SEED, next(calls), tuple(shape[1:]))[None]

            patch.setattr(module, "randn_tensor", drawn)
        yield


def noise(model: Model, **size: int) -> Tensor:
    (stage,) = model.stages(GenerationRequest(prompt=PROMPT, **size))
    return seeded_noise(SEED, 0, stage.shape)[None]


def theirs(pipe: DiffusionPipeline, start: Tensor, **settings: Any) -> Tensor:
    """Latents [1, C, h, w] of diffusers' pipeline."""
    height, width = (8 * side for side in start.shape[2:])
    packs = hasattr(pipe, "_pack_latents")
    if packs:
        start = pipe._pack_latents(start, *start.shape)
    latents = pipe(prompt=PROMPT, latents=start, height=height, width=width, output_type="latent", **settings).images
    return pipe._unpack_latents(latents, height, width, pipe.vae_scale_factor) if packs else latents


def drawn(model: Model, request: GenerationRequest, start: Tensor | None = None) -> Tensor:
    sequence = runner.admit(model, request, "alone", start)
    while not sequence.finished:
        runner.step(model, [sequence])
    return sequence.latents


def error(ours: Tensor, expected: Tensor) -> float:
    return float(torch.linalg.norm(ours - expected) / torch.linalg.norm(expected))


def with_sampler(pipe: DiffusionPipeline, sampler: str) -> DiffusionPipeline:
    scheduler, options = SCHEDULERS[sampler]
    shared = ("beta_schedule", "beta_start", "beta_end", "prediction_type", "timestep_spacing", "steps_offset")
    pipe.scheduler = scheduler(**{key: pipe.scheduler.config[key] for key in shared}, **options)
    return pipe


def request(sampler: str, steps: int, guidance: float) -> GenerationRequest:
    return GenerationRequest(
        prompt=PROMPT,
        negative_prompt=NEGATIVE,
        seed=SEED,
        steps=steps,
        sampler=sampler,
        guidance_scale=guidance,
    )
