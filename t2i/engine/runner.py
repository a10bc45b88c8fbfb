"""The numeric heart: requests in flight as sequences of latents, stepped together one denoiser forward at a time."""

from __future__ import annotations

import secrets
from collections.abc import Hashable

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from t2i.api import MAX_SEED, Admitted, EngineError, GenerationRequest, ImageReady, InvalidRequest, validate
from t2i.families.model import Model, Stage
from t2i.families.text import TextStates
from t2i.imaging.encode import encode_png
from t2i.imaging.sheet import encode_sheet

_LATENTS = "latents"


class Sequence:
    """One request in flight: all its images, each with its own seed.

    `latents` [images, C, h, w] is what the current stage works on, `denoised` its latest guess at the clean picture,
    `base` the finished latents of the first stage. All float32 on the model's device.
    """

    def __init__(self, model: Model, request: GenerationRequest, request_id: str, noise: Tensor | None) -> None:
        self.request_id = request_id
        self.request = request
        self.checkpoint = model.info.name
        self.step = 0
        first = secrets.randbelow(MAX_SEED + 1) if request.seed is None else request.seed
        self.seeds = [(first + i) % (MAX_SEED + 1) for i in range(request.images)]
        self._stages = model.stages(request)
        self.steps = sum(len(stage.plan) for stage in self._stages)
        self.text = model.encode([request.prompt])
        self.unconditional = model.encode([request.negative_prompt or ""])
        self.base: Tensor | None = None
        self._index = -1
        self._enter_next_stage(model, _initial_latents(model, request, self._stages[0]), noise)

    @property
    def finished(self) -> bool:
        return self._index == len(self._stages)

    @property
    def stage(self) -> Stage:
        return self._stages[self._index]

    @property
    def group(self) -> Hashable:
        """Sequences of one model with equal groups can share a forward."""
        return None if self.finished else (self.checkpoint, self.stage.name, self.stage.shape)

    @property
    def guided(self) -> bool:
        return self.stage.guidance.acts_at(self.stage_step, len(self.stage.plan))

    @property
    def rows(self) -> int:
        """Rows that one step adds to the batch."""
        return 0 if self.finished else len(self.seeds) * (2 if self.guided else 1)

    @property
    def admitted(self) -> Admitted:
        first, last = self._stages[0], self._stages[-1]
        return Admitted(
            request_id=self.request_id,
            checkpoint=self.checkpoint,
            seed=self.seeds[0],
            steps=self.steps,
            sampler=first.plan.sampler,
            guidance_scale=first.guidance.scale,
            width=last.shape[2],
            height=last.shape[1],
        )

    def advance(self, model: Model, latents: Tensor, denoised: Tensor) -> None:
        """Take the result of one step; leaves the stage, or the engine, when it was the last."""
        self.latents, self.denoised = latents, denoised
        self.step += 1
        self.stage_step += 1
        if self.stage_step == len(self.stage.plan):
            self._enter_next_stage(model, latents, None)

    def _enter_next_stage(self, model: Model, clean: Tensor | None, noise: Tensor | None) -> None:
        """Begin the next stage that has steps; `clean` is the picture to start from, or None for pure noise."""
        while True:
            if self._index == 0:
                self.base = clean
            self._index += 1
            if self.finished:
                assert clean is not None
                self.latents = clean
                return
            self.stage_step = 0
            plan = self.stage.plan
            if len(plan):
                break
        if noise is None:
            noise = torch.stack([_noise(seed, self.step, self.stage.shape) for seed in self.seeds])
        noise = noise.to(model.device, torch.float32)
        # Only the first stage starts from its own kind of picture; a later one reads it as a condition.
        if self._index == 0 and clean is not None:
            self.latents = noise * plan.start_sigma + plan.start_alpha * clean
        else:
            self.latents = noise * plan.start_scale
        self.denoised = torch.zeros_like(self.latents)


def admit(model: Model, request: GenerationRequest, request_id: str, noise: Tensor | None = None) -> Sequence:
    """Settle a request and put it in flight. `noise`: [images, C, h, w] to start from instead of the seeds'.

    Raises InvalidRequest.
    """
    validate(request)
    return Sequence(model, request, request_id, noise)


@torch.inference_mode()
def step(model: Model, sequences: list[Sequence]) -> None:
    """One denoiser forward for all of them, which must be of one group; each advances by one step.

    Raises EngineError (code "numerics") when the network's answer is not finite.
    """
    stage = sequences[0].stage
    counts = [len(sequence.seeds) for sequence in sequences]
    output = _guided_prediction(model, stage.name, sequences)
    latents = torch.cat([sequence.latents for sequence in sequences])
    history = torch.cat([sequence.denoised for sequence in sequences])
    noise = torch.cat([_step_noise(sequence, model.device) for sequence in sequences])
    rows = np.repeat([sequence.stage.plan.table[sequence.stage_step] for sequence in sequences], counts, axis=0)
    table = torch.from_numpy(rows).to(model.device, torch.float32)
    P, Q, A, B, C, D = table[..., None, None, None].unbind(1)
    denoised = P * latents + Q * output
    if stage.threshold is not None:
        denoised = stage.threshold(denoised)
    latents = A * latents + B * denoised + C * history + D * noise
    if not torch.isfinite(latents).all():
        raise EngineError("The picture came out as noise the model could not resolve; try again.", code="numerics")
    for sequence, own, clean in zip(
        sequences, torch.split(latents, counts), torch.split(denoised, counts), strict=True
    ):
        sequence.advance(model, own, clean)


def preview(model: Model, sequence: Sequence) -> bytes:
    """WebP sheet of the clean pictures the sequence believes in at this moment."""
    fresh_stage = not sequence.finished and sequence.stage_step == 0
    believed = sequence.base if fresh_stage and sequence.base is not None else sequence.denoised
    return encode_sheet(model.preview(believed))


def results(model: Model, sequence: Sequence) -> list[ImageReady]:
    """The finished pictures."""
    assert sequence.base is not None and sequence.finished
    pictures = model.decode(sequence.latents)
    return [
        ImageReady(
            request_id=sequence.request_id,
            index=index,
            seed=seed,
            width=picture.width,
            height=picture.height,
            png=encode_png(picture),
            latents=save({_LATENTS: base.to(torch.float16).contiguous().cpu()}),
        )
        for index, (seed, picture, base) in enumerate(zip(sequence.seeds, pictures, sequence.base, strict=True))
    ]


def _guided_prediction(model: Model, stage: str, sequences: list[Sequence]) -> Tensor:
    """The network's output [n, C, h, w]; guided sequences (Ho 2022) take two rows an image, the others one."""
    latents, timesteps, texts, previous = [], [], [], []
    for sequence in sequences:
        images = len(sequence.seeds)
        for text in (sequence.text, sequence.unconditional)[: 2 if sequence.guided else 1]:
            latents.append(sequence.latents)
            timesteps += [sequence.stage.plan.timesteps[sequence.stage_step]] * images
            texts += [text] * images
            if sequence.base is not None:
                previous.append(sequence.base)
    output = model.predict(
        stage,
        torch.cat(latents),
        torch.tensor(timesteps, device=model.device, dtype=torch.float32),
        TextStates.concatenate(texts),
        torch.cat(previous) if previous else None,
    )
    parts = []
    for sequence, rows in zip(sequences, torch.split(output, [sequence.rows for sequence in sequences]), strict=True):
        if not sequence.guided:
            parts.append(rows)
            continue
        conditional, unconditional = rows.chunk(2)
        parts.append(sequence.stage.guidance(conditional, unconditional))
    return torch.cat(parts)


def _initial_latents(model: Model, request: GenerationRequest, stage: Stage) -> Tensor | None:
    """The request's starting latents [images, C, h, w]. Raises InvalidRequest when they are another model's."""
    if request.latents is None:
        return None
    try:
        loaded = [load(blob)[_LATENTS] for blob in request.latents]
    except (SafetensorError, KeyError) as error:
        raise InvalidRequest("latents", "The starting picture's latents cannot be read.") from error
    if any(latents.shape != stage.shape for latents in loaded):
        raise InvalidRequest(
            "latents", f"The starting picture was drawn by another kind of model than {model.info.name}."
        )
    if len(loaded) == 1:
        loaded *= request.images
    return torch.stack(loaded).to(model.device, torch.float32)


def _noise(seed: int, step: int, shape: tuple[int, ...]) -> Tensor:
    """Standard normal noise that depends on the seed and the step alone, so batching and pausing change no picture."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
    return torch.randn(shape, generator=generator)


def _step_noise(sequence: Sequence, device: torch.device) -> Tensor:
    """Fresh noise for samplers that add some at this step, zeros for the others."""
    if sequence.stage.plan.table[sequence.stage_step, -1] == 0.0:
        return torch.zeros_like(sequence.latents)
    # Step 0's seed drew the initial noise; steps count from 1 here.
    return torch.stack([_noise(seed, sequence.step + 1, sequence.stage.shape) for seed in sequence.seeds]).to(device)
