"""Pictures from the checkpoint under evaluation, and the time they take."""

from __future__ import annotations

import io
import time
from collections.abc import Sequence

from PIL import Image

from t2i.api import GenerationRequest
from t2i.engine import runner
from t2i.engine.sequence import Sequence as Drawing
from t2i.families.cascade import Cascade
from t2i.families.pipeline import AnyModel

_TOGETHER = 4
"""Prompts drawn at once: enough to keep the cores busy."""


class Artist:
    """A loaded checkpoint that draws one picture of each prompt."""

    def __init__(self, model: AnyModel) -> None:
        self._model = model
        self.info = model.info
        self.small, self.large = self.info.sizes[0], self.info.sizes[-1]

    def draw(self, prompts: Sequence[str], size: int, seed: int) -> list[Image.Image]:
        """A picture of each prompt; the i-th has the seed `seed` + i."""
        requests = [
            GenerationRequest(prompt=prompt, seed=seed + index, width=size, height=size)
            for index, prompt in enumerate(prompts)
        ]
        pictures: list[Image.Image] = []
        for first in range(0, len(requests), _TOGETHER):
            pictures += self._together(requests[first : first + _TOGETHER])
        return pictures

    def collages(self, prompts: Sequence[str], seed: int) -> list[Image.Image | None]:
        """What the same drawings start from; None where it is noise alone."""
        if not isinstance(self._model, Cascade):
            return [None] * len(prompts)
        latents = [self._model.collage(prompt, seed + index) for index, prompt in enumerate(prompts)]
        return [None if one is None else self._model.decode(one[None])[0] for one in latents]

    def seconds(self, size: int, tries: int) -> float:
        """The best time of a grid of four, as somebody waits for it."""
        request = GenerationRequest(prompt="a red apple", images=4, seed=7, width=size, height=size)
        times = []
        for _ in range(tries):
            began = time.perf_counter()
            self._finish([runner.admit(self._model, request, "grid")])
            times.append(time.perf_counter() - began)
        return min(times)

    def _together(self, requests: Sequence[GenerationRequest]) -> list[Image.Image]:
        return self._finish([runner.admit(self._model, request, str(index)) for index, request in enumerate(requests)])

    def _finish(self, jobs: list[runner.Job]) -> list[Image.Image]:
        try:
            while waiting := [job for job in jobs if not job.finished]:
                runner.step(self._model, [job for job in waiting if _alike(job, waiting[0])])
            drawn = [image for job in jobs for image in runner.results(self._model, job)]
        finally:
            for job in jobs:
                job.close()
        return [Image.open(io.BytesIO(image.png)) for image in drawn]


def _alike(job: runner.Job, first: runner.Job) -> bool:
    """Whether both can share a forward."""
    if isinstance(job, Drawing) and isinstance(first, Drawing):
        return job.group == first.group
    return job is first
