"""The numeric heart: requests in flight as sequences of latents, stepped together one denoiser forward at a time."""

from __future__ import annotations

from collections.abc import Hashable
from typing import cast

import numpy as np
import torch
from torch import Tensor

from t2i.api import Admitted, EngineError, GenerationRequest, ImageReady, InvalidRequest, validate
from t2i.engine import starting
from t2i.engine.noise import image_seeds, seeded_noise
from t2i.engine.whole import WholeJob
from t2i.families.model import Model, Rows, Stage, TextStates
from t2i.families.pipeline import AnyModel, WholePipeline
from t2i.families.planning import refuse_unsupported, strength_for
from t2i.imaging.canvas import paste
from t2i.imaging.encode import encode_png
from t2i.imaging.sheet import encode_sheet


class Sequence:
    """One request in flight: all its images, each with its own seed.

    `latents` [images, C, h, w] is what the current stage works on, `denoised` its latest guess at the clean picture,
    `base` the finished latents of the first stage. All float32 on the model's device.
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
        self._start = starting.start(model, request, self.picture, self._stages)
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
        """Sequences of one model with equal groups can share a forward."""
        if self.finished:
            return None
        stage, request = self.stage, self.request
        sees = None if self.condition is None else self.condition.shape[1:]
        return self.checkpoint, stage.name, stage.shape, self.text.tokens.shape[1], sees, request.tile, request.loras

    @property
    def guided(self) -> bool:
        return self.stage.guidance.acts_at(self.stage_step, len(self.stage.plan))

    @property
    def rows(self) -> int:
        """Rows that one step adds to the batch."""
        return 0 if self.finished else len(self.seeds) * (2 if self.guided else 1)

    @property
    def condition(self) -> Tensor | None:
        """What the network sees beside the latents, [images, c, H, W]: the picture of the stage before, or a masked
        one."""
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

    def close(self) -> None:
        """Nothing runs between two steps."""

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
        # Only the first stage starts from its own kind of picture; a later one reads it as a condition.
        if self._index == 0 and clean is not None and strength_for(self.request) < 1.0:
            self.latents = self._noise * plan.start_sigma + plan.start_alpha * clean
        else:
            self.latents = self._noise * plan.start_scale
        self.denoised = torch.zeros_like(self.latents)


Job = Sequence | WholeJob


def admit(model: AnyModel, request: GenerationRequest, request_id: str, noise: Tensor | None = None) -> Job:
    """Settle a request and put it in flight. `noise`: [images, C, h, w] to start from instead of the seeds'.

    Raises InvalidRequest.
    """
    validate(request)
    if isinstance(model, WholePipeline):
        if noise is not None:
            raise InvalidRequest("noise", f"{model.info.name} draws its noise by itself.")
        return WholeJob(model, request, request_id)
    refuse_unsupported(request, model.info)
    return Sequence(model, request, request_id, noise)


def step(model: AnyModel, jobs: list[Job]) -> None:
    """One denoiser forward for all of them, which must be of one group; each advances by one step.

    Raises EngineError (code "numerics") when the network's answer is not finite.
    """
    if isinstance(jobs[0], WholeJob):
        jobs[0].advance()
    else:
        _step_together(cast(Model, model), cast(list[Sequence], jobs))


@torch.inference_mode()
def _step_together(model: Model, sequences: list[Sequence]) -> None:
    stage = sequences[0].stage
    counts = [len(sequence.seeds) for sequence in sequences]
    output, spread = _guided_prediction(model, sequences)
    latents = torch.cat([sequence.latents for sequence in sequences])
    history = torch.cat([sequence.denoised for sequence in sequences])
    noise = torch.cat([_step_noise(sequence, model.device) for sequence in sequences])
    rows = np.repeat([sequence.stage.plan.table[sequence.stage_step] for sequence in sequences], counts, axis=0)
    table = torch.from_numpy(rows).to(model.device, torch.float32)
    P, Q, A, B, C, D, E = table[..., None, None, None].unbind(1)
    denoised = P * latents + Q * output
    if stage.threshold is not None:
        denoised = stage.threshold(denoised)
    if spread is not None:
        D = torch.where(D == E, D, D ** (1 - spread) * E**spread)
    latents = A * latents + B * denoised + C * history + D * noise
    if not torch.isfinite(latents).all():
        raise EngineError("The picture came out as noise the model could not resolve; try again.", code="numerics")
    for sequence, own, clean in zip(
        sequences, torch.split(latents, counts), torch.split(denoised, counts), strict=True
    ):
        sequence.advance(model, own, clean)


def preview(model: AnyModel, job: Job) -> bytes | None:
    """WebP sheet of the clean pictures the job believes in at this moment; None of one that cannot be looked into."""
    if isinstance(job, WholeJob):
        return None
    fresh_stage = not job.finished and job.stage_step == 0
    believed = job.base if fresh_stage and job.base is not None else job.denoised
    return encode_sheet(cast(Model, model).preview(believed))


def results(model: AnyModel, job: Job) -> list[ImageReady]:
    """The finished pictures; outside a mask they are those of the starting picture, pixel by pixel."""
    if isinstance(job, WholeJob):
        return job.results()
    assert job.base is not None and job.finished
    pictures = cast(Model, model).decode(job.latents, tile=job.request.tile)
    if job.picture is not None:
        original, mask = job.picture.fitted(*pictures[0].size)
        pictures = [paste(picture, original, mask) if mask else picture for picture in pictures]
    return [
        ImageReady(
            request_id=job.request_id,
            index=index,
            seed=seed,
            width=picture.width,
            height=picture.height,
            png=encode_png(picture),
            latents=starting.pack_latents(base),
        )
        for index, (seed, picture, base) in enumerate(zip(job.seeds, pictures, job.base, strict=True))
    ]


def _guided_prediction(model: Model, sequences: list[Sequence]) -> tuple[Tensor, Tensor | None]:
    """The network's output [n, C, h, w], and the learned share of the noise [n, C, h, w] where there is one.

    Guided sequences (Ho 2022) take two rows an image, the others one.
    """
    latents, timesteps, texts, guidance, conditions = [], [], [], [], []
    for sequence in sequences:
        images = len(sequence.seeds)
        for text in (sequence.text, sequence.unconditional)[: 2 if sequence.guided else 1]:
            latents.append(sequence.latents)
            timesteps += [sequence.stage.plan.timesteps[sequence.stage_step]] * images
            guidance += [sequence.stage.embedded_guidance] * images
            texts += [text] * images
            if (condition := sequence.condition) is not None:
                conditions.append(condition)
    stage, request = sequences[0].stage, sequences[0].request
    output = model.predict(
        Rows(
            stage=stage.name,
            latents=torch.cat(latents),
            timesteps=torch.tensor(timesteps, device=model.device, dtype=torch.float32),
            text=TextStates.concatenate(texts),
            guidance=torch.tensor(guidance, device=model.device, dtype=torch.float32),
            condition=torch.cat(conditions) if conditions else None,
            tile=request.tile,
            loras=request.loras,
        )
    )
    output, spread = output.chunk(2, dim=1) if stage.learned_variance else (output, None)
    guided, spreads = [], []
    counts = [sequence.rows for sequence in sequences]
    for index, (sequence, rows) in enumerate(zip(sequences, torch.split(output, counts), strict=True)):
        images = len(sequence.seeds)
        guided.append(sequence.stage.guidance(*rows.chunk(2)) if sequence.guided else rows)
        if spread is not None:
            # Guidance says nothing of the variance: it is what the network answers to the prompt.
            spreads.append((torch.split(spread, counts)[index][:images] + 1) / 2)
    return torch.cat(guided), torch.cat(spreads) if spreads else None


def _step_noise(sequence: Sequence, device: torch.device) -> Tensor:
    """Fresh noise for samplers that add some at this step, zeros for the others."""
    if not sequence.stage.plan.table[sequence.stage_step, -2:].any():
        return torch.zeros_like(sequence.latents)
    # Step 0's seed drew the initial noise; steps count from 1 here.
    shape = sequence.stage.shape
    return torch.stack([seeded_noise(seed, sequence.step + 1, shape) for seed in sequence.seeds]).to(device)
