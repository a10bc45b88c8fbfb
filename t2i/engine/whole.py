"""Requests to pipelines that run from the prompt to the picture in one call, made to stop after every step.

The call runs in a thread of its own that never works at the same time as whoever advances it: the two take turns, so
that a request is stepped in a tick like any other, and one that waits for its tick holds nothing but memory.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Hashable
from typing import Any

import torch
from PIL import Image

from t2i.api import Admitted, EngineError, GenerationRequest, ImageReady, InvalidRequest
from t2i.engine.noise import image_seeds
from t2i.families.pipeline import WholePipeline
from t2i.imaging.encode import encode_png


class WholeJob:
    """One request in flight: all its images, each with its own seed.

    Whoever drops a job before it has finished must `close` it.
    """

    def __init__(self, model: WholePipeline, request: GenerationRequest, request_id: str) -> None:
        """Raises InvalidRequest for what the pipeline cannot do."""
        self.request_id = request_id
        self.request = request
        self.checkpoint = model.info.name
        self.step = 0
        self.seeds = image_seeds(request)
        self.finished = False
        self._info = model.info
        self._arguments = model.call.arguments(request, model.info)
        self._guidance_scale = float(self._arguments.get(model.call.guidance or "", 1.0))
        self.steps = model.expected_steps(self._arguments["num_inference_steps"])
        self._turns = _Turns(lambda: self._draw(model), name=f"draw-{request_id}")
        self._pictures: list[Image.Image] = []

    @property
    def group(self) -> Hashable:
        """No other request ever shares a forward."""
        return None if self.finished else (self.checkpoint, self.request_id)

    @property
    def rows(self) -> int:
        """Rows of a forward: two an image with guidance, as most pipelines guide."""
        return 0 if self.finished else len(self.seeds) * (2 if self._guidance_scale > 1.0 else 1)

    @property
    def admitted(self) -> Admitted:
        return Admitted(
            request_id=self.request_id,
            checkpoint=self.checkpoint,
            seed=self.seeds[0],
            steps=self.steps,
            sampler=self._info.sampler,
            guidance_scale=self._guidance_scale,
            width=self._arguments["width"],
            height=self._arguments["height"],
        )

    def advance(self) -> None:
        """One denoising step; the first also reads the prompt, and the last also decodes the pictures.

        Raises what the pipeline raises, after which there is nothing to close, and InvalidRequest where it refuses its
        arguments.
        """
        try:
            self.finished = self._turns.advance()
        except ValueError as error:
            if self.step:
                raise
            # Diffusers checks sizes and step counts in the call itself, before anything else.
            raise InvalidRequest("prompt", f"{self.checkpoint} cannot draw this: {error}") from error
        self.step = self.steps if self.finished else self.step + 1

    def close(self) -> None:
        """End the call where it stands; does nothing to one that has ended."""
        self._turns.close()

    def results(self) -> list[ImageReady]:
        """The finished pictures. They have no latents, as pipelines cannot start from any."""
        return [
            ImageReady(
                request_id=self.request_id,
                index=index,
                seed=seed,
                width=picture.width,
                height=picture.height,
                png=encode_png(picture),
                latents=b"",
            )
            for index, (seed, picture) in enumerate(zip(self.seeds, self._pictures, strict=True))
        ]

    def _draw(self, model: WholePipeline) -> None:
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in self.seeds]
        callbacks = _callbacks(model.call.defaults.keys(), self._after_step)
        self._pictures = model.fresh()(**self._arguments, **callbacks, generator=generators).images

    def _after_step(self, latents: object) -> None:
        if isinstance(latents, torch.Tensor) and not torch.isfinite(latents).all():
            raise EngineError("The picture came out as noise the model could not resolve; try again.", code="numerics")
        # Decoding belongs to the last step, as do steps beyond those that were expected.
        if self.step + 1 < self.steps:
            self._turns.give_back()


def _callbacks(parameters: Collection[str], after_step: Callable[[object], None]) -> dict[str, Any]:
    """What makes a pipeline with these parameters call `after_step` with its latents."""

    def on_step_end(pipeline: object, index: int, timestep: object, values: dict[str, Any]) -> dict[str, Any]:
        after_step(values.get("latents"))
        return values

    def legacy(index: int, timestep: object, latents: object) -> None:
        after_step(latents)

    names = [name for name in ("callback_on_step_end", "prior_callback_on_step_end") if name in parameters]
    return dict.fromkeys(names, on_step_end) if names else {"callback": legacy, "callback_steps": 1}


class _Closed(Exception):
    """Raised inside the work to end it."""


class _Turns:
    """Work in a thread that takes turns with its owner: `advance` lets it run until it gives the turn back."""

    def __init__(self, work: Callable[[], None], name: str) -> None:
        self._thread = threading.Thread(target=self._run, args=(work,), name=name, daemon=True)
        self._to_worker = threading.Semaphore(0)
        self._to_owner = threading.Semaphore(0)
        self._ended = False
        self._closed = False
        self._error: Exception | None = None

    def advance(self) -> bool:
        """Whether the work has ended. Raises what it raised."""
        if self._thread.ident is None:
            self._thread.start()
        self._to_worker.release()
        self._to_owner.acquire()
        if self._error is not None:
            # The error's frames hold the pipeline's tensors: whoever drops it frees them.
            error, self._error = self._error, None
            try:
                raise error
            finally:
                del error
        return self._ended

    def give_back(self) -> None:
        """Called by the work: wait until it is advanced again."""
        self._to_owner.release()
        self._to_worker.acquire()
        if self._closed:
            raise _Closed

    def close(self) -> None:
        self._closed = True
        if self._thread.ident is not None:
            self._to_worker.release()
            self._thread.join()

    def _run(self, work: Callable[[], None]) -> None:
        self._to_worker.acquire()
        try:
            work()
        except _Closed:
            pass
        except Exception as error:
            self._error = error
        self._ended = True
        self._to_owner.release()
