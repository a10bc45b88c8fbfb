"""How much a job asks of the engine."""

from __future__ import annotations

from bot.jobs.model import JobKind
from bot.prompt.options import JobOptions
from t2i.api import CheckpointInfo


def side(kind: JobKind, options: JobOptions, checkpoint: CheckpointInfo | None) -> int | None:
    """Pixels of a picture's side: grids are drawn at the checkpoint's smallest size, upscales at its largest."""
    if options.size is not None or checkpoint is None:
        return options.size
    return checkpoint.sizes[-1] if kind is JobKind.UPSCALE else checkpoint.sizes[0]


def steps(options: JobOptions, checkpoint: CheckpointInfo | None) -> int | None:
    return options.steps or (checkpoint.steps if checkpoint else None)


def cost(kind: JobKind, options: JobOptions, checkpoint: CheckpointInfo | None) -> float:
    """Denoiser work in megapixel steps: steps x pixels x images. Unknown checkpoints are taken for small ones."""
    work = steps(options, checkpoint) or 25
    if options.sampler == "heun":
        work = 2 * work - 1  # it asks the network twice
    pixels = (side(kind, options, checkpoint) or 64) ** 2
    return work * pixels * options.images / 1e6
