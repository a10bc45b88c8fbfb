"""How a request's open fields become a plan and a guidance: the same in every stepped family."""

from __future__ import annotations

from t2i.api import CheckpointInfo, GenerationRequest, InvalidRequest
from t2i.diffusion.guidance import Guidance
from t2i.diffusion.plan import Plan, Prediction, build_plan
from t2i.diffusion.samplers import Variance
from t2i.diffusion.schedule import Schedule

IMAGE_STRENGTH = 0.7
"""Of a starting picture, where the request names none: its composition stays, its details do not."""

_CANNOT = {
    "negative_prompt": "takes no negative prompt",
    "image": "cannot start from a picture",
    "mask": "cannot draw behind a mask",
    "tile": "cannot draw seamless tiles",
    "loras": "takes no LoRAs",
}


def plan_for(
    request: GenerationRequest,
    info: CheckpointInfo,
    schedule: Schedule,
    prediction: Prediction,
    variance: Variance = "fixed_small",
    *,
    by_itself: float = 1.0,
) -> Plan:
    """The plan of the first stage. `by_itself` is the share of it that is drawn where the request starts from nothing.
    Raises InvalidRequest for steps or a respacing that cannot be had."""
    try:
        return build_plan(
            schedule,
            request.sampler or info.sampler,
            request.steps or info.steps,
            respacing=request.respacing,
            strength=strength_for(request, by_itself),
            prediction=prediction,
            eta=request.eta or 0.0,
            variance=variance,
        )
    except ValueError as error:
        raise InvalidRequest("respacing" if request.respacing else "steps", str(error)) from error


def strength_for(request: GenerationRequest, by_itself: float = 1.0) -> float:
    """The share of the schedule that is drawn; behind a mask everything is."""
    if request.image is None and request.latents is None:
        return by_itself
    if request.strength is not None:
        return request.strength
    return IMAGE_STRENGTH if request.mask is None else 1.0


def guidance_for(request: GenerationRequest, info: CheckpointInfo) -> Guidance:
    scale = info.guidance_scale if request.guidance_scale is None else request.guidance_scale
    start, stop = request.guidance_interval or (0.0, 1.0)
    return Guidance(scale, request.guidance_rescale or 0.0, start, stop)


def size_for(request: GenerationRequest, info: CheckpointInfo, multiple: int) -> tuple[int, int]:
    """(width, height) in pixels, where every multiple of `multiple` can be drawn. Raises InvalidRequest."""
    width = request.width or request.height or info.default_size
    height = request.height or width
    for side in (width, height):
        if side % multiple:
            raise InvalidRequest("width", f"{info.name} draws sides of a multiple of {multiple} pixels, not {side}.")
    return width, height


def refuse_unsupported(request: GenerationRequest, info: CheckpointInfo) -> None:
    """Raises InvalidRequest for what this checkpoint cannot do at all."""
    asked = {
        "negative_prompt": bool(request.negative_prompt),
        "image": request.image is not None,
        "mask": request.mask is not None,
        "tile": request.tile,
        "loras": bool(request.loras),
    }
    for feature, wanted in asked.items():
        if wanted and feature not in info.features:
            raise InvalidRequest(feature, f"{info.name} {_CANNOT[feature]}.")
