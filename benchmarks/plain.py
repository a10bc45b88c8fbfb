"""Arm 1: what somebody writes who has diffusers and a prompt. One request after another, guidance as a batch of two."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Protocol

import diffusers
import torch
from diffusers import DiffusionPipeline, UNet2DConditionModel
from PIL import Image
from torch import Tensor
from torch.nn import functional

from t2i.api import GenerationRequest
from t2i.engine.noise import image_seeds, seeded_noise
from t2i.families.cascade import Cascade

TRAIN_STEPS = 1000
EMPTY = -1.0
"""Pixels of a collage that shows nothing; the network draws what a collage lacks."""


class Plain(Protocol):
    unet: Any
    """Called as diffusers' networks are; replaced by a compiled one for arm 2."""

    def draw(self, request: GenerationRequest) -> list[Image.Image]: ...

    def latents(self, request: GenerationRequest) -> Tensor:
        """[images, C, h, w] of the request's pictures."""

    def forward(self, rows: int) -> None:
        """The network alone, once, for so many rows."""


class PlainCascade:
    """The embedded checkpoint's base network in a loop of one's own, since diffusers has no pipeline for it.

    Network and scheduler are diffusers' as they come; the text encoder and what makes a picture of pixels are shared
    with our arms.
    """

    def __init__(self, folder: Path, shared: Cascade, dtype: torch.dtype = torch.float32) -> None:
        self.unet: Any = UNet2DConditionModel.from_pretrained(
            folder / "base", dtype=dtype, local_files_only=True
        ).eval()
        self.unet.to(shared.device)
        self._shared = shared
        self._patch = int((self.unet.config.out_channels // 4) ** 0.5)
        self._side = self.unet.config.sample_size * self._patch
        self._sees_collages = self.unet.config.in_channels > self.unet.config.out_channels

    @torch.inference_mode()
    def draw(self, request: GenerationRequest) -> list[Image.Image]:
        return self._shared.decode(self.latents(request))

    @torch.inference_mode()
    def latents(self, request: GenerationRequest) -> Tensor:
        device = self._shared.device
        scale = request.guidance_scale or 1.0
        prompt, nothing = self._shared.encode(request)
        texts = [prompt] * request.images + ([nothing] * request.images if scale != 1 else [])
        tokens = torch.cat([text.tokens for text in texts]).float()
        mask = torch.cat([text.mask for text in texts if text.mask is not None])
        pooled = torch.cat([text.pooled for text in texts if text.pooled is not None]).float()
        shape = (4, self._side, self._side)
        latents = torch.stack([seeded_noise(seed, 0, shape) for seed in image_seeds(request)]).to(device)
        scheduler = _flow_scheduler(request.sampler or "flow_euler", request.steps or 20)
        for timestep, sigma in zip(scheduler.timesteps, scheduler.sigmas, strict=False):
            inputs = torch.cat([latents, latents]) if scale != 1 else latents
            if self._sees_collages:
                inputs = torch.cat([inputs, torch.full_like(inputs, EMPTY)], 1)
            packed = functional.pixel_unshuffle(inputs, self._patch)
            # The network counts its timesteps from 0, and predicts the picture.
            clean = self.unet(
                packed,
                1000 * sigma.to(device) - 1,
                encoder_hidden_states=tokens,
                encoder_attention_mask=mask,
                class_labels=pooled,
            ).sample
            clean = functional.pixel_shuffle(clean, self._patch)
            if self._sees_collages:
                clean = clean + EMPTY
            if scale != 1:
                conditional, unconditional = clean.chunk(2)
                clean = unconditional + scale * (conditional - unconditional)
            velocity = (latents - clean.clamp(-1, 1)) / sigma
            latents = scheduler.step(velocity, timestep, latents).prev_sample
        return latents

    @torch.inference_mode()
    def forward(self, rows: int) -> None:
        device, config = self._shared.device, self.unet.config
        zeros = partial(torch.zeros, device=device, dtype=self.unet.dtype)
        self.unet(
            zeros(rows, config.in_channels, config.sample_size, config.sample_size),
            torch.tensor(500.0, device=device),
            encoder_hidden_states=zeros(rows, 20, config.cross_attention_dim),
            encoder_attention_mask=torch.ones(rows, 20, dtype=torch.bool, device=device),
            class_labels=zeros(rows, config.projection_class_embeddings_input_dim),
        )


class PlainPipeline:
    """Stable Diffusion's and SDXL's own pipelines."""

    SCHEDULERS = {  # noqa: RUF012
        "ddim": diffusers.DDIMScheduler,
        "euler": diffusers.EulerDiscreteScheduler,
        "euler_a": diffusers.EulerAncestralDiscreteScheduler,
        "dpmpp_2m": diffusers.DPMSolverMultistepScheduler,
    }

    def __init__(self, pipeline: DiffusionPipeline, size: int) -> None:
        self._pipeline = pipeline
        self._pipeline.set_progress_bar_config(disable=True)
        self._size = size
        self._scheduler_config = dict(pipeline.scheduler.config)

    @property
    def unet(self) -> Any:
        return self._pipeline.unet

    @unet.setter
    def unet(self, unet: Any) -> None:
        self._pipeline.unet = unet

    def draw(self, request: GenerationRequest) -> list[Image.Image]:
        pictures: list[Image.Image] = self._call(request, "pil")
        return pictures

    def latents(self, request: GenerationRequest) -> Tensor:
        latents: Tensor = self._call(request, "latent")
        return latents.float()

    def _call(self, request: GenerationRequest, output: str) -> Any:
        pipe = self._pipeline
        pipe.scheduler = self.SCHEDULERS[request.sampler or "euler"].from_config(self._scheduler_config)
        if request.sampler == "ddim":
            # As Stable Diffusion's own configs have it.
            pipe.scheduler.register_to_config(clip_sample=False, set_alpha_to_one=False)
        side = self._size // pipe.vae_scale_factor
        noise = torch.stack([seeded_noise(seed, 0, (4, side, side)) for seed in image_seeds(request)])
        return pipe(
            prompt=request.prompt,
            negative_prompt=request.negative_prompt,
            num_images_per_prompt=request.images,
            num_inference_steps=request.steps,
            guidance_scale=request.guidance_scale,
            height=self._size,
            width=self._size,
            latents=noise.to(pipe.device, pipe.unet.dtype),
            output_type=output,
        ).images

    @torch.inference_mode()
    def forward(self, rows: int) -> None:
        unet, device, dtype = self.unet, self._pipeline.device, self._pipeline.unet.dtype
        side = self._size // self._pipeline.vae_scale_factor
        known: dict[str, Tensor] | None = None
        if unet.config.addition_embed_type == "text_time":
            width = self._pipeline.text_encoder_2.config.projection_dim
            known = {
                "text_embeds": torch.zeros(rows, width, device=device, dtype=dtype),
                "time_ids": torch.zeros(rows, 6, device=device, dtype=dtype),
            }
        unet(
            torch.zeros(rows, 4, side, side, device=device, dtype=dtype),
            torch.tensor(500.0, device=device),
            encoder_hidden_states=torch.zeros(rows, 77, unet.config.cross_attention_dim, device=device, dtype=dtype),
            added_cond_kwargs=known,
            return_dict=False,
        )


def _flow_scheduler(sampler: str, steps: int) -> Any:
    """diffusers' scheduler of that name for a rectified flow, stopping where the embedded checkpoint was trained to."""
    sigmas = [round(TRAIN_STEPS - i * TRAIN_STEPS / steps) / TRAIN_STEPS for i in range(steps)]
    if sampler == "dpmpp_2m":
        scheduler = diffusers.DPMSolverMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction")
        scheduler.set_timesteps(steps)
        scheduler.sigmas = torch.tensor([*sigmas, 0.0])
        scheduler.timesteps = 1000 * scheduler.sigmas[:-1]
        return scheduler
    # Without noise, DDIM and Euler on a flow are the same.
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(stochastic_sampling=sampler == "euler_a")
    scheduler.set_timesteps(sigmas=sigmas)
    return scheduler
