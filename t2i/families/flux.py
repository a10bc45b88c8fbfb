"""FLUX.1 (Black Forest Labs, 2024): a transformer on a rectified flow that reads T5 and CLIP's pooled vector. "dev" was
distilled with guidance as an input, "schnell" needs none; neither takes a negative prompt."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from t2i.api import GenerationRequest
from t2i.checkpoints.schedulers import dynamic_shift
from t2i.diffusion.guidance import Guidance
from t2i.diffusion.schedule import Schedule, flow_schedule
from t2i.families.clip import ClipText
from t2i.families.latent import LatentModel
from t2i.families.model import Rows, TextStates
from t2i.families.t5 import T5Text

T5_TOKENS = 512
PATCH = 2


class Flux(LatentModel):
    family = "flux"
    denoiser_name = "transformer"
    multiple = 16

    def __init__(self, parts: dict[str, Any], *arguments: Any, **options: Any) -> None:
        super().__init__(parts, *arguments, **options)
        self._clip = ClipText(parts["text_encoder"], parts["tokenizer"])
        self._t5 = T5Text(parts["text_encoder_2"], parts["tokenizer_2"], T5_TOKENS)

    def schedule_for(self, shape: tuple[int, int, int]) -> Schedule:
        """Larger pictures start noisier, where the checkpoint says so; sigmas run from 1 through 1 / steps."""
        shift = dynamic_shift(self.scheduler_config, math.prod(shape[1:]) // PATCH**2)
        return flow_schedule(self.schedule.num_timesteps, reads_sigma=True, shift=shift)

    def guidance_for(self, request: GenerationRequest) -> tuple[Guidance, float]:
        scale = self.info.guidance_scale if request.guidance_scale is None else request.guidance_scale
        return Guidance(1.0), scale if self.denoiser.config.guidance_embeds else 0.0

    @torch.inference_mode()
    def encode(self, request: GenerationRequest) -> tuple[TextStates, TextStates]:
        self.loras.use(request.loras)
        with self.reading():
            pooled = self._clip.encode([request.prompt]).pooled
            tokens = self._t5.encode([request.prompt]).tokens
        states = TextStates(tokens, None, pooled).to(self.device, self.placement.dtype)
        return states, states

    @torch.inference_mode()
    def predict(self, rows: Rows) -> Tensor:
        """The velocity, noise - picture, [n, 16, h, w]; the transformer sees 2 x 2 latents as one token."""
        self.loras.use(rows.loras)
        text = rows.text.to(self.device, self.dtype)
        dtype = self.dtype
        height, width = (side // PATCH for side in rows.latents.shape[2:])
        packed = functional.pixel_unshuffle(rows.latents, PATCH).flatten(2).transpose(1, 2)
        (output,) = self.denoiser(
            hidden_states=packed.to(dtype),
            timestep=rows.timesteps.to(dtype) / self.schedule.num_timesteps,
            guidance=rows.guidance if self.denoiser.config.guidance_embeds else None,
            pooled_projections=text.pooled,
            encoder_hidden_states=text.tokens,
            txt_ids=torch.zeros(text.tokens.shape[1], 3, device=self.device, dtype=dtype),
            img_ids=_positions(height, width).to(self.device, dtype),
            return_dict=False,
        )
        output = output.transpose(1, 2).unflatten(2, (height, width))
        return functional.pixel_shuffle(output, PATCH).float()


def _positions(height: int, width: int) -> Tensor:
    """[height * width, 3]: 0, row and column of every token."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([torch.zeros_like(rows), rows, columns], -1).flatten(0, 1)
