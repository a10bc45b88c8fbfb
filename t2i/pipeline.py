"""`t2i` as a library: load a checkpoint, generate pictures."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from t2i import checkpoints
from t2i.api import Admitted, CheckpointError, CheckpointInfo, GenerationRequest
from t2i.engine import runner
from t2i.families.pipeline import AnyModel, WholePipeline


@dataclass(frozen=True, slots=True)
class Result:
    """`images` and their `seeds`, their `latents` (for variations and upscaling), the settled fields, the time."""

    images: list[Image.Image]
    seeds: list[int]
    latents: list[bytes]
    settled: Admitted
    seconds: float


class Pipeline:
    """A loaded checkpoint that draws one request at a time."""

    def __init__(self, model: AnyModel) -> None:
        self._model = model

    @property
    def info(self) -> CheckpointInfo:
        return self._model.info

    @property
    def device(self) -> str:
        return str(self._model.device)

    def generate(
        self,
        request: GenerationRequest,
        noise: Tensor | None = None,
        on_step: Callable[[int, int], None] | None = None,
    ) -> Result:
        """Draw a request to the end.

        `noise`: the initial latents [images, C, h, w], instead of the seeds' own. `on_step(step, steps)` is called
        after every step. Raises InvalidRequest or EngineError.
        """
        began = time.monotonic()
        job = runner.admit(self._model, request, "", noise)
        try:
            while not job.finished:
                runner.step(self._model, [job])
                if on_step is not None:
                    on_step(job.step, job.steps)
            drawn = runner.results(self._model, job)
        finally:
            job.close()
        return Result(
            images=[Image.open(io.BytesIO(image.png)) for image in drawn],
            seeds=job.seeds,
            latents=[image.latents for image in drawn],
            settled=job.admitted,
            seconds=time.monotonic() - began,
        )

    def add_lora(self, name: str, file: str | Path) -> None:
        """Let requests name this file. Raises CheckpointError for what is no LoRA of this family."""
        if isinstance(self._model, WholePipeline):
            raise CheckpointError(f"{self.info.name} takes no LoRAs.")
        self._model.loras.add(name, Path(file))


def load(name_or_path: str | Path, device: str = "auto", **options: Any) -> Pipeline:
    """Load a checkpoint: a name ("embedded"), a folder, a single safetensors file or a hub id.

    `options` are those of `checkpoints.load`: precision, the devices of the parts. Raises CheckpointError or
    EngineError.
    """
    return Pipeline(checkpoints.load(name_or_path, device, **options))
