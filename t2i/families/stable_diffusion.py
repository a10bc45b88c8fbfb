"""Stable Diffusion 1.x and 2.x (Rombach 2022): a U-Net that reads one CLIP encoder's states, and its inpainting
variant, which also sees the mask and what lies outside it."""

from __future__ import annotations

from typing import Any, cast

import torch
from PIL import Image
from torch import Tensor

from t2i.api import GenerationRequest
from t2i.families.autoencoder import mask_to_latents
from t2i.families.circular import circular
from t2i.families.clip import ClipText
from t2i.families.latent import LatentModel, on_white
from t2i.families.model import Rows, Stage, Start, TextStates


class StableDiffusion(LatentModel):
    family = "sd"

    def __init__(self, parts: dict[str, Any], *arguments: Any, **options: Any) -> None:
        super().__init__(parts, *arguments, **options)
        self._text = ClipText(parts["text_encoder"], parts["tokenizer"])
        self._sees_mask = self.denoiser.config.in_channels == 2 * self._autoencoder.channels + 1

    @torch.inference_mode()
    def encode(self, request: GenerationRequest) -> tuple[TextStates, TextStates]:
        self.loras.use(request.loras)
        with self.reading():
            states = self._text.encode([request.prompt, request.negative_prompt or ""])
        tokens = states.tokens.to(self.device, self.placement.dtype)
        return TextStates(tokens[:1], None, None), TextStates(tokens[1:], None, None)

    def start(self, picture: Image.Image, mask: Image.Image | None, stage: Stage, *, tile: bool = False) -> Start:
        start = super().start(picture, mask, stage, tile=tile)
        if not self._sees_mask:
            return start
        # Such a network was trained to keep what it sees, so nothing has to be put back after each step.
        mask = mask or Image.new("L", picture.size, 255)
        return Start(start.latents, condition=self._condition(picture, mask, stage.shape))

    @torch.inference_mode()
    def predict(self, rows: Rows) -> Tensor:
        """The noise, or the velocity, [n, 4, h, w]."""
        self.loras.use(rows.loras)
        with circular(self.denoiser, rows.tile):
            return self.forward(rows)

    def forward(self, rows: Rows) -> Tensor:
        """What the denoiser says as it is now, with gradients where it has any."""
        text = rows.text.to(self.device, self.dtype)
        latents = rows.latents
        if self._sees_mask:
            latents = torch.cat([latents, self._seen(rows)], 1)
        (output,) = self.denoiser(
            latents.to(self.dtype, memory_format=torch.channels_last),
            rows.timesteps,
            encoder_hidden_states=text.tokens,
            return_dict=False,
        )
        return cast(Tensor, output.float())

    def _seen(self, rows: Rows) -> Tensor:
        if rows.condition is not None:
            return rows.condition
        count, channels, height, width = rows.latents.shape
        size = (width * self._autoencoder.factor, height * self._autoencoder.factor)
        nothing = self._condition(Image.new("RGB", size), Image.new("L", size, 255), (channels, height, width))
        return nothing.expand(count, -1, -1, -1)

    def _condition(self, picture: Image.Image, mask: Image.Image, shape: tuple[int, int, int]) -> Tensor:
        """The mask and the latents of what it leaves of the picture, grey elsewhere: [1, 5, h, w]."""
        grey = Image.new("RGB", picture.size, (128, 128, 128))
        hard = mask.point(lambda value: 255 if value >= 128 else 0)
        kept = self._autoencoder.encode(Image.composite(grey, on_white(picture), hard))
        return torch.cat([mask_to_latents(mask, shape), kept.cpu()], 1).to(self.device)
