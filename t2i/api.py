"""The whole contract between `t2i` and whoever uses it: requests, events and errors.

Nothing here imports torch, so a process that only talks to an engine stays small. Every message is a msgspec
Struct and travels as msgpack; `PROTOCOL_VERSION` changes whenever a field changes its meaning.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

PROTOCOL_VERSION = 1

MAX_PROMPT_LENGTH = 1000
"""Characters in a prompt or a negative prompt."""
MAX_IMAGES = 4
MAX_STEPS = 200
MAX_GUIDANCE_SCALE = 30.0
MAX_SEED = 2**32 - 1

SAMPLERS = ("ddpm", "ddim", "euler", "euler_a", "heun", "dpmpp_2m", "dpmpp_2m_karras", "lcm", "flow_euler")


class T2IError(Exception):
    """Base of every failure that `t2i` reports: one plain sentence that says what happened and what to do."""


class InvalidRequest(T2IError, ValueError):
    """A field of a request is out of range; nothing was started."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class CheckpointError(T2IError):
    """A checkpoint is missing, damaged or of a kind that cannot be loaded; nothing was half-loaded."""


class EngineError(T2IError):
    """The engine could not do its work; `retryable` says whether the same request may succeed later."""

    def __init__(self, message: str, *, code: str = "engine", retryable: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.retryable = retryable


class EngineCrashed(EngineError):
    """The engine process ended while the request was in flight."""

    def __init__(self, message: str = "The image engine stopped while it was drawing.") -> None:
        super().__init__(message, code="crashed", retryable=True)


class GenerationRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What to draw. `None` means the checkpoint's own default.

    `latents` are starting pictures in the checkpoint's own latent space, as `ImageReady.latents` gave them; with one
    entry every image starts from it, otherwise there is one per image. `strength` is the share of the schedule that is
    drawn anew on top of them: 1 forgets them, 0 keeps them as they are, so that only the upsampler works.
    """

    prompt: str
    negative_prompt: str | None = None
    images: int = 1
    steps: int | None = None
    sampler: str | None = None
    respacing: str | None = None
    """Timestep respacing as GLIDE writes it ("27", "10,10,7", "ddim25", "fast27"); replaces `steps`."""
    guidance_scale: float | None = None
    seed: int | None = None
    """Image i draws from seed + i (modulo 2^32); None picks one."""
    width: int | None = None
    height: int | None = None
    latents: tuple[bytes, ...] | None = None
    strength: float | None = None


def validate(request: GenerationRequest) -> None:
    """Refuse what no checkpoint can do. Raises InvalidRequest with one sentence; changes nothing."""
    _within("images", request.images, 1, MAX_IMAGES)
    _within("steps", request.steps, 1, MAX_STEPS)
    _within("guidance_scale", request.guidance_scale, 0.0, MAX_GUIDANCE_SCALE)
    _within("seed", request.seed, 0, MAX_SEED)
    _within("strength", request.strength, 0.0, 1.0)
    if not request.prompt.strip():
        raise InvalidRequest("prompt", "The prompt is empty: say what to draw.")
    for field in ("prompt", "negative_prompt"):
        text = getattr(request, field)
        if text is not None and len(text) > MAX_PROMPT_LENGTH:
            name = field.replace("_", " ")
            raise InvalidRequest(
                field, f"The {name} has {len(text)} characters; at most {MAX_PROMPT_LENGTH} are allowed."
            )
    if request.sampler is not None and request.sampler not in SAMPLERS:
        raise InvalidRequest(
            "sampler", f"There is no sampler named {request.sampler!r}; choose one of {', '.join(SAMPLERS)}."
        )
    if request.latents is not None and len(request.latents) not in (1, request.images):
        raise InvalidRequest(
            "latents", f"{len(request.latents)} starting latents were given for {request.images} images."
        )
    if request.strength is not None and request.latents is None:
        raise InvalidRequest("strength", "A strength needs a picture to start from.")


def _within(field: str, value: float | None, low: float, high: float) -> None:
    # `not low <= value <= high` also refuses NaN.
    if value is not None and not low <= value <= high:
        name = field.replace("_", " ")
        raise InvalidRequest(field, f"{name[0].upper()}{name[1:]} must be from {low} to {high}, not {value}.")


class CheckpointInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a checkpoint can do and what it does when a request leaves a field open."""

    name: str
    family: str
    description: str
    licence: str
    sha256: str
    parameters: int
    sizes: tuple[int, ...]
    """Square sizes in pixels it draws, smallest first; the first is what a grid uses, the last what upscaling gives."""
    default_size: int
    steps: int
    sampler: str
    guidance_scale: float
    samplers: tuple[str, ...]


# --- commands: client -> worker -------------------------------------------------------------------------------------


class Submit(msgspec.Struct, frozen=True, kw_only=True, tag="submit"):
    request_id: str
    checkpoint: str
    request: GenerationRequest
    preview_every: int = 2
    """Send a preview every so many steps; 0 sends none."""


class Cancel(msgspec.Struct, frozen=True, kw_only=True, tag="cancel"):
    request_id: str


class Drain(msgspec.Struct, frozen=True, kw_only=True, tag="drain"):
    """Finish what is in flight, admit nothing more, then exit."""


Command = Submit | Cancel | Drain


# --- events: worker -> client ---------------------------------------------------------------------------------------


class Hello(msgspec.Struct, frozen=True, kw_only=True, tag="hello"):
    """First message of a worker, once it can take work."""

    version: int
    device: str
    capacity: int
    """Requests that it holds in flight at once."""
    checkpoints: tuple[CheckpointInfo, ...]
    loaded: tuple[str, ...]


class Loaded(msgspec.Struct, frozen=True, kw_only=True, tag="loaded"):
    """The checkpoints in memory changed."""

    checkpoints: tuple[str, ...]


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True, tag="heartbeat"):
    """Sent every second by the worker's socket loop, so that silence means trouble."""

    ticks: int


class Fatal(msgspec.Struct, frozen=True, kw_only=True, tag="fatal"):
    """The worker cannot work, says why in one sentence, and ends."""

    message: str


class Admitted(msgspec.Struct, frozen=True, kw_only=True, tag="admitted"):
    """The request is in flight, with every open field now settled."""

    request_id: str
    checkpoint: str
    seed: int
    steps: int
    """Denoiser steps until all pictures are done, all stages together."""
    sampler: str
    guidance_scale: float
    width: int
    height: int


class Progress(msgspec.Struct, frozen=True, kw_only=True, tag="progress"):
    request_id: str
    step: int
    """Steps done, 1..steps."""
    steps: int
    preview: bytes | None = None
    """WebP sheet of the denoised images so far (2x2 for four), or None."""


class ImageReady(msgspec.Struct, frozen=True, kw_only=True, tag="image"):
    """One finished picture."""

    request_id: str
    index: int
    seed: int
    width: int
    height: int
    png: bytes
    latents: bytes
    """Opaque; give it back in `GenerationRequest.latents` to vary or to upscale this picture."""


class Done(msgspec.Struct, frozen=True, kw_only=True, tag="done"):
    request_id: str
    seconds: float


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag="failed"):
    request_id: str
    code: Literal["invalid", "checkpoint", "memory", "numerics", "engine"]
    message: Annotated[str, Meta(description="One sentence for the person who asked.")]
    retryable: bool = False


class Cancelled(msgspec.Struct, frozen=True, kw_only=True, tag="cancelled"):
    request_id: str


RequestEvent = Admitted | Progress | ImageReady | Done | Failed | Cancelled
Event = Hello | Loaded | Heartbeat | Fatal | RequestEvent
