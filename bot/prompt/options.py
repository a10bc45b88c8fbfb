"""The one type that holds what a job was asked to draw, from the slash command to the engine and back to a reader."""

from __future__ import annotations

import msgspec

from t2i.api import GenerationRequest, validate

GRID_IMAGES = 4


class JobOptions(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Parameters of a job as the user gave them; `None` means the checkpoint's own default."""

    prompt: str
    negative_prompt: str | None = None
    images: int = GRID_IMAGES
    steps: int | None = None
    guidance_scale: float | None = None
    seed: int | None = None
    sampler: str | None = None
    checkpoint: str | None = None
    size: int | None = None
    draft: bool = False
    """Somebody waits for a first look, so it passes others sooner."""
    strength: float | None = None
    """How much a variation departs from its parent, 0..1."""

    def to_request(self, latents: tuple[bytes, ...] | None = None) -> GenerationRequest:
        return GenerationRequest(
            prompt=self.prompt,
            negative_prompt=self.negative_prompt,
            images=self.images,
            steps=self.steps,
            sampler=self.sampler,
            guidance_scale=self.guidance_scale,
            seed=self.seed,
            width=self.size,
            height=self.size,
            latents=latents,
            strength=self.strength if latents is not None else None,
        )

    def validate(self) -> None:
        """Raises t2i.api.InvalidRequest naming the field and its range."""
        validate(self.to_request())

    def canonical(self) -> str:
        """The slash command that asks for the same pictures again, to be pasted into Discord."""
        named = (
            ("prompt", self.prompt),
            ("negative", self.negative_prompt),
            ("images", self.images if self.images != GRID_IMAGES else None),
            ("steps", self.steps),
            ("guidance", self.guidance_scale),
            ("seed", self.seed),
            ("checkpoint", self.checkpoint),
        )
        return "/imagine " + " ".join(f"{name}: {value}" for name, value in named if value is not None)
