"""Stable Diffusion XL (Podell 2023) and what was distilled from it (Turbo, Lightning, LCM): a U-Net that reads two CLIP
encoders and is told the size of the picture."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from t2i.api import GenerationRequest
from t2i.families.circular import circular
from t2i.families.clip import ClipText, encode_with_each
from t2i.families.latent import LatentModel
from t2i.families.model import Rows, TextStates


class StableDiffusionXL(LatentModel):
    family = "sdxl"

    def __init__(self, parts: dict[str, Any], *arguments: Any, **options: Any) -> None:
        super().__init__(parts, *arguments, **options)
        self._texts = [
            ClipText(parts["text_encoder"], parts["tokenizer"], penultimate=True),
            ClipText(parts["text_encoder_2"], parts["tokenizer_2"], penultimate=True),
        ]

    @torch.inference_mode()
    def encode(self, request: GenerationRequest) -> tuple[TextStates, TextStates]:
        """Both encoders' states side by side; the second one's pooled vector. No negative prompt at all is zeros, as
        the network was trained to take it."""
        self.loras.use(request.loras)
        with self.reading():
            both = encode_with_each(self._texts, [request.prompt, request.negative_prompt or ""])
        tokens = torch.cat([states.tokens for states in both], -1)
        states = TextStates(tokens, None, both[1].pooled).to(self.device, self.placement.dtype)
        positive, negative = states[:1], states[1:]
        return positive, negative.like_zeros() if request.negative_prompt is None else negative

    @torch.inference_mode()
    def predict(self, rows: Rows) -> Tensor:
        """The noise, or the velocity, [n, 4, h, w]."""
        self.loras.use(rows.loras)
        with circular(self.denoiser, rows.tile):
            return self.forward(rows)

    def forward(self, rows: Rows) -> Tensor:
        """What the denoiser says as it is now, with gradients where it has any."""
        text = rows.text.to(self.device, self.dtype)
        count, _, *shape = rows.latents.shape
        height, width = (side * self._autoencoder.factor for side in shape)
        # Original size, crop and target size (Podell 2023, section 2.2): a picture that was never cut or scaled.
        time_ids = torch.tensor([[height, width, 0, 0, height, width]], device=self.device, dtype=self.dtype)
        (output,) = self.denoiser(
            rows.latents.to(self.dtype, memory_format=torch.channels_last),
            rows.timesteps,
            encoder_hidden_states=text.tokens,
            added_cond_kwargs={"text_embeds": text.pooled, "time_ids": time_ids.expand(count, -1)},
            return_dict=False,
        )
        return cast(Tensor, output.float())
