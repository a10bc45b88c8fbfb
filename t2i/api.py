"""The whole contract between `t2i` and whoever uses it: requests, events and errors.

Nothing here imports torch, so a process that only talks to an engine stays small. Every message is a msgspec
Struct and travels as msgpack; `PROTOCOL_VERSION` changes whenever a field changes its meaning.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

PROTOCOL_VERSION = 2

MAX_PROMPT_LENGTH = 1000
"""Characters in a prompt or a negative prompt."""
MAX_IMAGES = 4
MAX_STEPS = 200
MAX_GUIDANCE_SCALE = 30.0
MAX_SEED = 2**32 - 1
MAX_SIDE = 2048
"""Pixels; a checkpoint may draw less."""
MAX_LORAS = 5
MAX_LORA_WEIGHT = 4.0
MAX_IMAGE_BYTES = 32 * 2**20

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


class Lora(msgspec.Struct, frozen=True):
    """A LoRA by its name and how much of it: 0 nothing, 1 as it was trained, negative values its opposite."""

    name: str
    weight: float = 1.0


class GenerationRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What to draw. `None` means the checkpoint's own default.

    A picture to start from is either `image`, a PNG, JPEG, WEBP, GIF or BMP file, or `latents`, pictures in the
    checkpoint's own latent space as `ImageReady.latents` gave them; with one entry every image starts from it,
    otherwise there is one per image. `strength` is the share of the schedule that is drawn anew on top of it: 1 forgets
    it, 0 keeps it as it is, so that only an upsampler works. Where `mask`, a picture of the same size, is black, the
    starting picture stays; where it is white, it is drawn anew.

    Prompts know weights: `(word)`, `(word:1.3)` and `[word]`.
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
    image: bytes | None = None
    mask: bytes | None = None
    strength: float | None = None
    tile: bool = False
    """Whether the left edge continues the right one and the top the bottom."""
    loras: tuple[Lora, ...] = ()
    eta: float | None = None
    """Noise of "ddim": 0 adds none, 1 as much as DDPM (Song 2020, eq. 16)."""
    guidance_rescale: float | None = None
    """Share of the contrast that guidance added which is taken back (Lin 2023, section 3.4)."""
    guidance_interval: tuple[float, float] | None = None
    """Guidance acts from the first through the second share of the steps only (Kynkäänniemi 2024)."""
    exact: bool = False
    """Drawn without sharing any forward, so that one device always gives the same bits."""


def validate(request: GenerationRequest) -> None:
    """Refuse what no checkpoint can do. Raises InvalidRequest with one sentence; changes nothing."""
    _within("images", request.images, 1, MAX_IMAGES)
    _within("steps", request.steps, 1, MAX_STEPS)
    _within("guidance_scale", request.guidance_scale, 0.0, MAX_GUIDANCE_SCALE)
    _within("seed", request.seed, 0, MAX_SEED)
    _within("strength", request.strength, 0.0, 1.0)
    _within("width", request.width, 1, MAX_SIDE)
    _within("height", request.height, 1, MAX_SIDE)
    _within("eta", request.eta, 0.0, 1.0)
    _within("guidance_rescale", request.guidance_rescale, 0.0, 1.0)
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
    _validate_start(request)
    if request.guidance_interval is not None:
        start, stop = request.guidance_interval
        if not 0 <= start < stop <= 1:
            raise InvalidRequest("guidance_interval", f"Guidance cannot act from {start} to {stop} of the steps.")
    if len(request.loras) > MAX_LORAS:
        raise InvalidRequest("loras", f"{len(request.loras)} LoRAs were asked for; at most {MAX_LORAS} go together.")
    if len({lora.name for lora in request.loras}) < len(request.loras):
        raise InvalidRequest("loras", "A LoRA was named twice.")
    for lora in request.loras:
        if not abs(lora.weight) <= MAX_LORA_WEIGHT:
            raise InvalidRequest(
                "loras", f"The weight of {lora.name} must be from -{MAX_LORA_WEIGHT} to {MAX_LORA_WEIGHT}."
            )


def _validate_start(request: GenerationRequest) -> None:
    if request.image is not None and request.latents is not None:
        raise InvalidRequest("image", "A request starts from a picture or from latents, not from both.")
    if request.strength is not None and request.image is None and request.latents is None:
        raise InvalidRequest("strength", "A strength needs a picture to start from.")
    if request.mask is not None and request.image is None:
        raise InvalidRequest("mask", "A mask needs a picture to start from.")
    for field in ("image", "mask"):
        file = getattr(request, field)
        if file is not None and len(file) > MAX_IMAGE_BYTES:
            raise InvalidRequest(field, f"The {field} is larger than {MAX_IMAGE_BYTES // 2**20} MB.")


def _within(field: str, value: float | None, low: float, high: float) -> None:
    # `not low <= value <= high` also refuses NaN.
    if value is not None and not low <= value <= high:
        name = field.replace("_", " ")
        raise InvalidRequest(field, f"{name[0].upper()}{name[1:]} must be from {low} to {high}, not {value}.")


class Hardware(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where the parts of a model compute, and in which precision.

    Devices are auto, cpu, cuda, cuda:1 or mps; text encoders and autoencoder are with the denoiser unless they are
    given devices of their own. `dtype` is auto, float32, float16 or bfloat16. `offload` keeps text encoders and
    autoencoder in main memory while they rest, for cards that hold the denoiser alone.
    """

    device: str = "auto"
    dtype: str = "auto"
    text_device: str | None = None
    vae_device: str | None = None
    offload: bool = False


Feature = Literal["negative_prompt", "image", "mask", "tile", "loras", "any_size"]
"""`any_size`: every multiple of 8 px, where others draw their `sizes` only."""


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
    features: tuple[Feature, ...] = ()
    """What requests may use beyond a prompt."""


Stage = Literal["downloading", "checking", "copying", "hashing"]
"""What is being done with the files of a checkpoint."""


class Damaged(msgspec.Struct, frozen=True):
    """A checkpoint or a LoRA that cannot be loaded, and one sentence that says why."""

    name: str
    problem: str


class LoraInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A LoRA in the folder of checkpoints."""

    name: str
    family: str | None
    """None where the file does not tell."""
    size: int
    """Bytes."""


class Shelf(msgspec.Struct, frozen=True, kw_only=True):
    """All that lies in the folder of checkpoints, the embedded checkpoint included."""

    checkpoints: tuple[CheckpointInfo, ...] = ()
    loras: tuple[LoraInfo, ...] = ()
    damaged: tuple[Damaged, ...] = ()


# --- commands: client -> worker -------------------------------------------------------------------------------------


class Submit(msgspec.Struct, frozen=True, kw_only=True, tag="submit"):
    request_id: str
    checkpoint: str
    request: GenerationRequest
    preview_every: int = 2
    """Send a preview every so many steps, or as often as the engine has time for; 0 sends none."""
    user: str = ""
    """Who asks: the device is shared fairly between users. A request without one is a user by itself."""
    draft: bool = False
    """Whether somebody waits for a first look: drafts count as a larger share of the device."""
    trial: bool = False
    """Whether the checkpoint is to be read anew for this request alone, until `Settle` says what becomes of it. Other
    requests for it go to the model that is there already; a picture without anything on it is a failure."""


class Settle(msgspec.Struct, frozen=True, kw_only=True, tag="settle"):
    """End a trial: with `keep` the model that was tried answers all requests for the checkpoint from now on, otherwise
    it is let go. Requests in flight stay with the model that they began with."""

    checkpoint: str
    keep: bool


class Add(msgspec.Struct, frozen=True, kw_only=True, tag="add"):
    """Copy a checkpoint or a LoRA into the folder of checkpoints; answered by Advanced and Accomplished."""

    request_id: str
    source: str
    """The name of something in that folder, an id of the hub, or, with `anywhere`, a path."""
    name: str | None = None
    anywhere: bool = False


class Remove(msgspec.Struct, frozen=True, kw_only=True, tag="remove"):
    """Delete a checkpoint or a LoRA from the folder of checkpoints; answered by Accomplished."""

    request_id: str
    name: str
    lora: bool = False


class Verify(msgspec.Struct, frozen=True, kw_only=True, tag="verify"):
    """Compare every file of a checkpoint with its hash; answered by Advanced and Accomplished."""

    request_id: str
    checkpoint: str


class Cancel(msgspec.Struct, frozen=True, kw_only=True, tag="cancel"):
    """End a request or an errand; a download ends when it is complete."""

    request_id: str


class Prefetch(msgspec.Struct, frozen=True, kw_only=True, tag="prefetch"):
    """Load a checkpoint that will soon be wanted, if there is room beside those in use; otherwise do nothing."""

    checkpoint: str


class Drain(msgspec.Struct, frozen=True, kw_only=True, tag="drain"):
    """Finish what is in flight, admit nothing more, then exit."""


Errand = Add | Remove | Verify
"""What concerns files only: one after the other, beside the drawing; Accomplished, Failed or Cancelled ends each."""

Command = Submit | Settle | Cancel | Prefetch | Errand | Drain


# --- events: worker -> client ---------------------------------------------------------------------------------------


class Hello(msgspec.Struct, frozen=True, kw_only=True, tag="hello"):
    """First message of a worker, once it can take work."""

    version: int
    device: str
    capacity: int
    """Requests that it holds in flight at once."""
    shelf: Shelf
    loaded: tuple[str, ...]
    weights: dict[str, int] = {}


class Loaded(msgspec.Struct, frozen=True, kw_only=True, tag="loaded"):
    """The checkpoints in memory changed."""

    checkpoints: tuple[str, ...]
    weights: dict[str, int] = {}
    """Bytes on the device of every checkpoint that was ever there."""


class Shelved(msgspec.Struct, frozen=True, kw_only=True, tag="shelved"):
    """The folder of checkpoints changed."""

    shelf: Shelf


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True, tag="heartbeat"):
    """Sent every second by the worker's socket loop, so that silence means trouble."""

    ticks: int
    """Steps it has done so far."""
    busy: bool
    """Whether it has something to do beside waiting, so that ticks must move on."""


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


class Advanced(msgspec.Struct, frozen=True, kw_only=True, tag="advanced"):
    """How far an errand is; `total` is 0 where nobody knows."""

    request_id: str
    stage: Stage
    done: int
    total: int
    """Bytes."""


class Accomplished(msgspec.Struct, frozen=True, kw_only=True, tag="accomplished"):
    """An errand is done; `name` is what the checkpoint or LoRA is called now."""

    request_id: str
    name: str
    lora: bool = False


RequestEvent = Admitted | Progress | ImageReady | Done | Failed | Cancelled
ErrandEvent = Advanced | Accomplished | Failed | Cancelled
Event = Hello | Loaded | Shelved | Heartbeat | Fatal | Advanced | Accomplished | RequestEvent
