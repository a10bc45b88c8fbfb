"""What a finished file says of the job that it comes from."""

from __future__ import annotations

from bot.jobs.model import Job, JobKind, StoredImage
from t2i.api import CheckpointInfo
from t2i.provenance import Marks


def marks_of(job: Job, image: StoredImage, info: CheckpointInfo | None) -> Marks:
    """Under the names that image tools know; `info` fills in the defaults that the job left open."""
    options = job.options
    steps, guidance, sampler = options.steps, options.guidance_scale, options.sampler
    if info is not None:
        steps, sampler = steps or info.steps, sampler or info.sampler
        guidance = info.guidance_scale if guidance is None else guidance
    found = {
        "Steps": None if job.kind is JobKind.UPSCALE else steps,
        "Sampler": sampler,
        "CFG scale": None if guidance is None else f"{guidance:g}",
        "Seed": image.seed,
        "Size": f"{image.width}x{image.height}",
        "Model": job.checkpoint.replace(",", " "),
        "Model hash": None if info is None else info.sha256[:12],
        "Job": job.id,
    }
    return Marks(options.prompt, options.negative_prompt, {name: str(v) for name, v in found.items() if v is not None})
