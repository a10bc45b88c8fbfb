"""A request in flight: all its images, each with its own seed, somewhere between noise and picture."""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple

import torch
from torch import Tensor

from t2i.api import Admitted, GenerationRequest
from t2i.engine import starting
from t2i.engine.noise import image_seeds, seeded_noise
from t2i.families.model import Model, Stage


class Kind(NamedTuple):
    """What tells how long a row of a model's forward takes: the network, and the shape (C, h, w) of its latents."""

    stage: str
    shape: tuple[int, int, int]


class Sequence:
    """One request in flight: all its images, each with its own seed.

    `latents` [images, C, h, w] is what the current stage works on, `denoised` its latest guess at the clean picture,
    `base` the finished latents of the first stage. `embedded_guidance` [1] is what a distilled network is told of the
    guidance. All float32 on the model's device.
    """

    def __init__(self, model: Model, request: GenerationRequest, request_id: str, noise: Tensor | None) -> None:
        self.request_id = request_id
        self.picture = starting.open_picture(request)
        self.request = request = starting.sized_like(request, self.picture, model.info)
        self.checkpoint = model.info.name
        self.step = 0
        self.seeds = image_seeds(request)
        self._stages = model.stages(request)
        self.steps = sum(len(stage.plan) for stage in self._stages)
        self._start = starting.start(model, request, self.picture, self._stages, self.seeds)
        self.text, self.unconditional = model.encode(request)
        self.base: Tensor | None = None
        self._index = -1
        self._enter_next_stage(model, self._start.latents if self._start else None, noise)

    @property
    def finished(self) -> bool:
        return self._index == len(self._stages)

    @property
    def stage(self) -> Stage:
        return self._stages[self._index]

    @property
    def group(self) -> Hashable:
        """Sequences of one model with equal groups can share a forward; an exact one is a group by itself."""
        if self.finished:
            return None
        request = self.request
        sees = None if self.condition is None else self.condition.shape[1:]
        alone = self.request_id if request.exact else None
        return self.checkpoint, self.kind, self.text.tokens.shape[1], sees, request.tile, request.loras, alone

    @property
    def kind(self) -> Kind:
        return Kind(self.stage.name, self.stage.shape)

    @property
    def itinerary(self) -> list[tuple[Kind, int]]:
        """Of every step from the first to the last: its kind, and the rows it takes."""
        return [
            (Kind(stage.name, stage.shape), self._rows_of(stage, step))
            for stage in self._stages
            for step in range(len(stage.plan))
        ]

    @property
    def guided(self) -> bool:
        return self.stage.guidance.acts_at(self.stage_step, len(self.stage.plan))

    @property
    def rows(self) -> int:
        """Rows that one step adds to the batch."""
        return 0 if self.finished else self._rows_of(self.stage, self.stage_step)

    @property
    def timestep(self) -> Tensor:
        """Where the step stands, as the network knows it, [1]."""
        return self._timesteps[self.stage_step : self.stage_step + 1]

    @property
    def coefficients(self) -> Tensor:
        """The sampler's numbers for the step, [1, 7]."""
        return self._table[self.stage_step : self.stage_step + 1]

    @property
    def noisy(self) -> bool:
        """Whether the step adds fresh noise."""
        return bool(self.stage.plan.table[self.stage_step, -2:].any())

    @property
    def condition(self) -> Tensor | None:
        """What the network sees beside the latents, [images, c, H, W]: the picture of the stage before, a masked one
        or one to draw after."""
        if self.base is not None:
            return self.base
        if self._start is None or self._start.condition is None:
            return None
        return self._start.condition.expand(len(self.seeds), -1, -1, -1)

    @property
    def admitted(self) -> Admitted:
        first, last = self._stages[0], self._stages[-1]
        return Admitted(
            request_id=self.request_id,
            checkpoint=self.checkpoint,
            seed=self.seeds[0],
            steps=self.steps,
            sampler=first.plan.sampler,
            guidance_scale=first.embedded_guidance or first.guidance.scale,
            width=last.shape[2] * last.scale,
            height=last.shape[1] * last.scale,
        )

    def advance(self, model: Model, latents: Tensor, denoised: Tensor) -> None:
        """Take the result of one step; leaves the stage, or the engine, when it was the last."""
        self.latents, self.denoised = self._keep_unmasked(latents), denoised
        self.step += 1
        self.stage_step += 1
        if self.stage_step == len(self.stage.plan):
            self._enter_next_stage(model, self.latents, None)

    def fresh_noise(self) -> Tensor:
        """The noise of the step, [images, C, h, w]; zeros where the sampler adds none."""
        if not self.noisy:
            return torch.zeros_like(self.latents)
        # Step 0's seed drew the initial noise; steps count from 1 here.
        noise = torch.stack([seeded_noise(seed, self.step + 1, self.stage.shape) for seed in self.seeds])
        return noise.to(self.latents.device)

    def believed(self) -> Tensor:
        """Clean latents [images, C, h, w] of the pictures it believes in at this moment."""
        fresh_stage = not self.finished and self.stage_step == 0
        return self.base if fresh_stage and self.base is not None else self.denoised

    def close(self) -> None:
        """Nothing runs between two steps."""

    def _rows_of(self, stage: Stage, step: int) -> int:
        return len(self.seeds) * (2 if stage.guidance.acts_at(step, len(stage.plan)) else 1)

    def _keep_unmasked(self, latents: Tensor) -> Tensor:
        """Put back what the mask keeps of the starting picture, as noisy as the rest is now (Lugmayr 2022, eq. 8)."""
        if self._index != 0 or self._start is None or self._start.mask is None:
            return latents
        alpha, sigma = self.stage.plan.reached[self.stage_step]
        kept = alpha * self._start.latents + sigma * self._noise
        return torch.lerp(kept, latents, self._start.mask)

    def _enter_next_stage(self, model: Model, clean: Tensor | None, noise: Tensor | None) -> None:
        """Begin the next stage that has steps; `clean` is the picture to start from, or None for pure noise."""
        while True:
            if self._index == 0:
                assert clean is not None
                self.base = clean.expand(len(self.seeds), -1, -1, -1)
            self._index += 1
            if self.finished:
                assert self.base is not None and clean is not None
                self.latents = clean.expand(len(self.seeds), -1, -1, -1)
                return
            self.stage_step = 0
            plan = self.stage.plan
            if len(plan):
                break
        if noise is None:
            noise = torch.stack([seeded_noise(seed, self.step, self.stage.shape) for seed in self.seeds])
        self._noise = noise.to(model.device, torch.float32)
        # On the device once, as nothing may wait for it in between two steps.
        self._timesteps = torch.tensor(plan.timesteps, device=model.device, dtype=torch.float32)
        self._table = torch.from_numpy(plan.table).to(model.device, torch.float32)
        self.embedded_guidance = torch.tensor([self.stage.embedded_guidance], device=model.device)
        # Only the first stage starts from its own kind of picture; a later one reads it as a condition.
        if self._index == 0 and clean is not None and plan.strength < 1.0:
            self.latents = self._noise * plan.start_sigma + plan.start_alpha * clean
        else:
            self.latents = self._noise * plan.start_scale
        self.denoised = torch.zeros_like(self.latents)
