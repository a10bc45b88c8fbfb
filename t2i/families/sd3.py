"""Stable Diffusion 3 and 3.5 (Esser 2024): a transformer on a rectified flow that reads two CLIP encoders and T5."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional

from t2i.api import GenerationRequest
from t2i.families.clip import ClipText, encode_with_each
from t2i.families.latent import LatentModel
from t2i.families.model import Rows, TextStates
from t2i.families.t5 import T5Text

T5_TOKENS = 256


class StableDiffusion3(LatentModel):
    family = "sd3"
    denoiser_name = "transformer"
    multiple = 16

    def __init__(self, parts: dict[str, Any], *arguments: Any, **options: Any) -> None:
        super().__init__(parts, *arguments, **options)
        self._clips = [
            ClipText(parts["text_encoder"], parts["tokenizer"], penultimate=True),
            ClipText(parts["text_encoder_2"], parts["tokenizer_2"], penultimate=True),
        ]
        # Many keep this checkpoint without T5, the largest of its parts; it then reads nothing in its place.
        self._t5 = T5Text(parts["text_encoder_3"], parts["tokenizer_3"], T5_TOKENS) if parts["text_encoder_3"] else None

    @torch.inference_mode()
    def encode(self, request: GenerationRequest) -> tuple[TextStates, TextStates]:
        """Both CLIP encoders' states side by side, then T5's (Esser 2024, figure 2)."""
        self.loras.use(request.loras)
        prompts = [request.prompt, request.negative_prompt or ""]
        dim = self.denoiser.config.joint_attention_dim
        with self.reading():
            clips = encode_with_each(self._clips, prompts)
            t5 = self._t5.encode(prompts).tokens if self._t5 else torch.zeros(2, T5_TOKENS, dim)
        tokens = torch.cat([states.tokens for states in clips], -1)
        tokens = functional.pad(tokens, (0, dim - tokens.shape[-1]))
        pooled = torch.cat([states.pooled for states in clips if states.pooled is not None], -1)
        states = TextStates(torch.cat([tokens, t5.to(tokens)], 1), None, pooled).to(self.device, self.placement.dtype)
        return states[:1], states[1:]

    @torch.inference_mode()
    def predict(self, rows: Rows) -> Tensor:
        """The velocity, noise - picture, [n, 16, h, w]."""
        self.loras.use(rows.loras)
        text = rows.text.to(self.device, self.dtype)
        (output,) = self.denoiser(
            hidden_states=rows.latents.to(self.dtype),
            timestep=rows.timesteps,
            encoder_hidden_states=text.tokens,
            pooled_projections=text.pooled,
            return_dict=False,
        )
        return cast(Tensor, output.float())
