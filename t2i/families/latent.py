"""What Stable Diffusion, SDXL, SD3 and FLUX share: a network that denoises an autoencoder's latents (Rombach 2022)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from t2i.api import CheckpointInfo, GenerationRequest
from t2i.checkpoints.lora import Loras
from t2i.checkpoints.schedulers import read_scheduler
from t2i.diffusion.guidance import Guidance
from t2i.diffusion.schedule import Schedule
from t2i.families.autoencoder import Autoencoder, mask_to_latents
from t2i.families.model import Stage, Start
from t2i.families.parts import Placement
from t2i.families.planning import guidance_for, plan_for, size_for

STAGE = "denoise"


class LatentModel:
    """Base of the latent families; they add `encode` and `predict`.

    `parts` are diffusers' components by their names, in eval mode; `scheduler_config` is that of the checkpoint.
    """

    family: str
    denoiser_name = "unet"
    multiple = 8
    """Pixels that every side is a multiple of."""

    def __init__(
        self,
        parts: dict[str, Any],
        info: CheckpointInfo,
        scheduler_config: dict[str, Any],
        placement: Placement,
        loras_dir: Path | None = None,
    ) -> None:
        self.info = info
        self.device = placement.denoiser
        self.dtype = placement.dtype
        self.placement = placement
        self.scheduler_config = scheduler_config
        self.schedule, self.prediction, _ = read_scheduler(scheduler_config)
        self.denoiser: Any = parts[self.denoiser_name]
        self.denoiser.to(placement.denoiser, memory_format=torch.channels_last)
        names = [name for name in parts if name.startswith("text_encoder") and parts[name] is not None]
        self.text_encoders: list[nn.Module] = [parts[name].to(self._resting(placement.text)) for name in sorted(names)]
        self._autoencoder = Autoencoder(parts["vae"], placement.vae, placement.vae_dtype, offload=placement.offload)
        adaptable = {name: parts[name] for name in (self.denoiser_name, *names)}
        self.loras = Loras(self.family, adaptable, loras_dir)

    def stages(self, request: GenerationRequest) -> list[Stage]:
        """The one stage there is. Raises InvalidRequest."""
        width, height = size_for(request, self.info, self.multiple)
        scale = self._autoencoder.factor
        shape = (self._autoencoder.channels, height // scale, width // scale)
        plan = plan_for(request, self.info, self.schedule_for(shape), self.prediction)
        guidance, embedded = self.guidance_for(request)
        return [Stage(STAGE, plan, shape, guidance, embedded_guidance=embedded, scale=scale)]

    def schedule_for(self, shape: tuple[int, int, int]) -> Schedule:
        """The noise schedule for latents of this shape (C, h, w)."""
        return self.schedule

    def guidance_for(self, request: GenerationRequest) -> tuple[Guidance, float]:
        """Guidance by a second forward, and guidance that the network is told of."""
        return guidance_for(request, self.info), 0.0

    def start(self, picture: Image.Image, mask: Image.Image | None, stage: Stage, *, tile: bool = False) -> Start:
        latents = self._autoencoder.encode(on_white(picture), tile=tile).to(self.device)
        return Start(latents, None if mask is None else mask_to_latents(mask, stage.shape).to(self.device))

    def begin(self, request: GenerationRequest, latents: Tensor | None, seeds: list[int]) -> Start | None:
        return None if latents is None else Start(latents)

    def decode(self, latents: Tensor, *, tile: bool = False) -> list[Image.Image]:
        return self._autoencoder.decode(latents, tile=tile)

    def preview(self, latents: Tensor) -> list[Image.Image]:
        return self._autoencoder.preview(latents)

    def modules(self) -> list[nn.Module]:
        return [self.denoiser, *self.text_encoders, *self._autoencoder.modules()]

    @contextmanager
    def precise(self) -> Iterator[None]:
        """The denoiser computes in float32 inside, for latents that half precision cannot hold."""
        self.dtype = torch.float32
        self.denoiser.float()
        try:
            yield
        finally:
            self.dtype = self.placement.dtype
            self.denoiser.to(self.dtype)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """The text encoders are on their device inside, and where they rest outside."""
        resting = self._resting(self.placement.text)
        for encoder in self.text_encoders:
            encoder.to(self.placement.text)
        try:
            yield
        finally:
            for encoder in self.text_encoders:
                encoder.to(resting)

    def _resting(self, device: torch.device) -> torch.device:
        return torch.device("cpu") if self.placement.offload else device


def on_white(picture: Image.Image) -> Image.Image:
    """RGB; what lies beneath transparent pixels is often black, and was never meant to be seen."""
    if picture.mode != "RGBA":
        return picture.convert("RGB")
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
