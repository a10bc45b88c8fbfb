"""The numeric heart: requests in flight are stepped together, one denoiser forward at a time."""

from __future__ import annotations

import dataclasses
from typing import cast

import torch
from torch import Tensor

from t2i.api import EngineError, GenerationRequest, ImageReady, InvalidRequest, validate
from t2i.engine import starting
from t2i.engine.sequence import Kind, Sequence
from t2i.engine.whole import WholeJob
from t2i.families.model import Model, Rows, TextStates
from t2i.families.pipeline import AnyModel, WholePipeline
from t2i.families.planning import refuse_unsupported
from t2i.imaging.canvas import paste
from t2i.imaging.encode import encode_png
from t2i.imaging.sheet import encode_sheet

Job = Sequence | WholeJob

OUT_OF_MEMORY = (MemoryError, torch.OutOfMemoryError)


class NotFinite(EngineError):
    """The network's answers to these jobs, which were not advanced, are not finite even in float32."""

    def __init__(self, jobs: list[Job]) -> None:
        super().__init__("The picture came out as noise the model could not resolve; try again.", code="numerics")
        self.jobs = jobs


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


def kind(job: Job) -> Kind:
    """The kind of a job's next step."""
    if isinstance(job, WholeJob):
        # Latents are an eighth of the picture in most pipelines.
        return Kind("whole", (0, job.admitted.height // 8, job.admitted.width // 8))
    return job.kind


def itinerary(job: Job) -> list[tuple[Kind, int]]:
    """Of every step of a job from the first to the last: its kind, and the rows it takes."""
    return [(kind(job), job.rows)] * job.steps if isinstance(job, WholeJob) else job.itinerary


def step(model: AnyModel, jobs: list[Job], *, at_once: int | None = None) -> None:
    """One denoiser forward for all of them, which must be of one group; each advances by one step.

    With `at_once` the forward is taken in parts of so many rows, which needs less memory and draws the same. Answers
    that are not finite are asked for again in float32, each job's by themselves. Raises NotFinite when that does not
    help; the other jobs have advanced then.
    """
    if isinstance(jobs[0], WholeJob):
        jobs[0].advance()
    else:
        _step_together(cast(Model, model), cast(list[Sequence], jobs), at_once)


def believed(job: Job) -> Tensor | None:
    """Clean latents of the pictures a job believes in at this moment; None of one that cannot be looked into."""
    return None if isinstance(job, WholeJob) else job.believed()


def sheet(model: AnyModel, latents: Tensor) -> bytes:
    """WebP sheet of previews of clean latents [n, C, h, w]."""
    return encode_sheet(cast(Model, model).preview(latents))


def preview(model: AnyModel, job: Job) -> bytes | None:
    """What a job believes in at this moment, as a sheet."""
    latents = believed(job)
    return None if latents is None else sheet(model, latents)


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


# --- a step -----------------------------------------------------------------------------------------------------------


@torch.inference_mode()
def _step_together(model: Model, sequences: list[Sequence], at_once: int | None) -> None:
    counts = [len(sequence.seeds) for sequence in sequences]
    latents, denoised, finite = _evaluate(model, sequences, at_once)
    broken: list[Sequence] = []
    parts = (torch.split(tensor, counts) for tensor in (latents, denoised, finite))
    for sequence, own, clean, fine in zip(sequences, *parts, strict=True):
        if fine.all():
            sequence.advance(model, own, clean)
        else:
            broken.append(sequence)
    lost: list[Job] = [sequence for sequence in broken if not _advance_precisely(model, sequence, at_once)]
    if lost:
        raise NotFinite(lost)


def _advance_precisely(model: Model, sequence: Sequence, at_once: int | None) -> bool:
    """Whether a sequence could be advanced with the network in float32."""
    try:
        with model.precise():
            latents, denoised, finite = _evaluate(model, [sequence], at_once)
    except OUT_OF_MEMORY:
        return False
    if finite.all():
        sequence.advance(model, latents, denoised)
        return True
    return False


def _evaluate(model: Model, sequences: list[Sequence], at_once: int | None) -> tuple[Tensor, Tensor, Tensor]:
    """Latents and denoised latents [images, C, h, w] after the step, and which of the images are finite, [images] on
    the CPU; nothing is changed."""
    output, spread = _guided_prediction(model, sequences, at_once)
    latents = torch.cat([sequence.latents for sequence in sequences])
    history = torch.cat([sequence.denoised for sequence in sequences])
    table = torch.cat([sequence.coefficients.expand(len(sequence.seeds), -1) for sequence in sequences])
    P, Q, A, B, C, D, E = table[..., None, None, None].unbind(1)
    denoised = P * latents + Q * output
    if (threshold := sequences[0].stage.threshold) is not None:
        denoised = threshold(denoised)
    if spread is not None:
        D = torch.where(D == E, D, D ** (1 - spread) * E**spread)
    latents = A * latents + B * denoised + C * history
    if any(sequence.noisy for sequence in sequences):
        latents = latents + D * torch.cat([sequence.fresh_noise() for sequence in sequences])
    return latents, denoised, torch.isfinite(latents).flatten(1).all(1).cpu()


def _guided_prediction(model: Model, sequences: list[Sequence], at_once: int | None) -> tuple[Tensor, Tensor | None]:
    """The network's output [n, C, h, w], and the learned share of the noise [n, C, h, w] where there is one."""
    rows = rows_for(sequences)
    output = _predict(model, rows, at_once or len(rows.latents))
    output, spread = output.chunk(2, dim=1) if sequences[0].stage.learned_variance else (output, None)
    guided, spreads = [], []
    counts = [sequence.rows for sequence in sequences]
    for index, (sequence, own) in enumerate(zip(sequences, torch.split(output, counts), strict=True)):
        images = len(sequence.seeds)
        guided.append(sequence.stage.guidance(*own.chunk(2)) if sequence.guided else own)
        if spread is not None:
            # Guidance says nothing of the variance: it is what the network answers to the prompt.
            spreads.append((torch.split(spread, counts)[index][:images] + 1) / 2)
    return torch.cat(guided), torch.cat(spreads) if spreads else None


def rows_for(sequences: list[Sequence]) -> Rows:
    """What the network is asked in the next step. Guided sequences (Ho 2022) take two rows an image, others one."""
    halves = [
        (sequence, text)
        for sequence in sequences
        for text in (sequence.text, sequence.unconditional)[: 2 if sequence.guided else 1]
    ]
    conditions = [sequence.condition for sequence, _ in halves if sequence.condition is not None]
    first = sequences[0]
    return Rows(
        stage=first.stage.name,
        latents=torch.cat([sequence.latents for sequence, _ in halves]),
        timesteps=torch.cat([sequence.timestep.expand(len(sequence.seeds)) for sequence, _ in halves]),
        text=TextStates.concatenate([text for sequence, text in halves for _ in sequence.seeds]),
        guidance=torch.cat([sequence.embedded_guidance.expand(len(sequence.seeds)) for sequence, _ in halves]),
        condition=torch.cat(conditions) if conditions else None,
        tile=first.request.tile,
        loras=first.request.loras,
    )


def some(rows: Rows, which: slice | Tensor) -> Rows:
    """The rows that a slice or indices name."""
    return dataclasses.replace(
        rows,
        latents=rows.latents[which],
        timesteps=rows.timesteps[which],
        text=rows.text[which],
        guidance=rows.guidance[which],
        condition=None if rows.condition is None else rows.condition[which],
    )


def _predict(model: Model, rows: Rows, at_once: int) -> Tensor:
    count = len(rows.latents)
    if count <= at_once:
        return model.predict(rows)
    return torch.cat([model.predict(some(rows, slice(first, first + at_once))) for first in range(0, count, at_once)])
