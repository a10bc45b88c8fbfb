"""What a LoRA file adds to which layer, checked against the networks it is meant for.

A LoRA (Hu 2021, https://arxiv.org/abs/2106.09685) adds alpha / rank * B A to the weights of some layers. It names the
layers as diffusers and peft do, as kohya does (their paths with underscores, and an alpha each), or as the original
code of SDXL and FLUX does, which diffusers' own converters read.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.loaders import FluxLoraLoaderMixin, SD3LoraLoaderMixin, StableDiffusionXLLoraLoaderMixin
from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY
from diffusers.utils.state_dict_utils import (
    DIFFUSERS_OLD_TO_PEFT,
    DIFFUSERS_TO_PEFT,
    UNET_TO_DIFFUSERS,
    convert_state_dict,
)
from peft.tuners.lora import LoraLayer
from peft.utils.other import get_pattern_key
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from t2i.api import CheckpointError

_PARTS = ("unet", "transformer", "base", "text_encoder", "text_encoder_2", "text_encoder_3")
_OTHER_KINDS = {"dora_scale": "DoRA", "lora_magnitude_vector": "DoRA", "lokr_": "LoKr", "hada_": "LoHa"}

_KOHYA_KEY = re.compile(r"lora_(unet|transformer|te|te1|te2)_(.+)\.(lora_down\.weight|lora_up\.weight|alpha)")
_KOHYA_PARTS = {"te": "text_encoder", "te1": "text_encoder", "te2": "text_encoder_2"}
_KOHYA_HALVES = {"lora_down.weight": "lora_A.weight", "lora_up.weight": "lora_B.weight"}


@dataclass(frozen=True, slots=True)
class LoraWeights:
    """What is added to one layer: alpha / rank * `up` [out, rank, ...] times `down` [rank, in, ...]."""

    down: Tensor
    up: Tensor
    alpha: float

    @property
    def rank(self) -> int:
        return len(self.down)


@torch.inference_mode(False)
def read(path: Path, family: str, parts: dict[str, nn.Module]) -> dict[str, dict[str, LoraWeights]]:
    """All that a file adds, as {part: {layer: weights}}; the tensors are on the CPU as they were saved.

    Raises CheckpointError for a file that is no safetensors file, is damaged, or does not fit these parts.
    """
    tensors, config = _open(path)
    try:
        return _layers(tensors, config, family, parts)
    except _Misfit as misfit:
        raise CheckpointError(f"The LoRA {path.name} cannot be used here: {misfit}.") from misfit


class _Misfit(Exception):
    """Why a file does not fit, as the end of a sentence."""


def _open(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors, and what peft wrote of its configuration."""
    if path.suffix != ".safetensors":
        raise CheckpointError(f"{path.name} is not a .safetensors file; no other kind is opened, as it could run code.")
    try:
        with safe_open(path, "pt") as file:
            config = json.loads((file.metadata() or {}).get(LORA_ADAPTER_METADATA_KEY, "{}"))
            return {key: file.get_tensor(key) for key in file.keys()}, config  # noqa: SIM118 (it is no dict)
    except FileNotFoundError as error:
        raise CheckpointError(f"There is no file {path}.") from error
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"{path.name} is damaged or not a safetensors file; fetch it again.") from error


def _layers(
    tensors: dict[str, Tensor], config: dict[str, Any], family: str, parts: dict[str, nn.Module]
) -> dict[str, dict[str, LoraWeights]]:
    for mark, kind in _OTHER_KINDS.items():
        if any(mark in key for key in tensors):
            raise _Misfit(f"it is a {kind}, and only LoRAs can be loaded")
    tensors, alphas = _in_diffusers_naming(tensors, family, parts)
    halves: dict[str, dict[str, dict[str, Tensor]]] = defaultdict(lambda: defaultdict(dict))
    for (part, key), tensor in _by_part(tensors, family, parts).items():
        layer, _, end = key.rpartition(".lora_")
        if end not in ("A.weight", "B.weight"):
            raise _Misfit(f"nothing is known of its key {key}")
        halves[part][layer][end[0]] = tensor
    if not halves:
        raise _Misfit("it changes no layer")
    layer_alphas = {}
    for (part, key), alpha in _by_part(alphas, family, parts).items():
        try:
            layer_alphas[part, key.split(".lora_")[0].removesuffix(".alpha")] = float(alpha)
        except (RuntimeError, ValueError) as error:
            raise _Misfit(f"{key} is not a number") from error
    found: dict[str, dict[str, LoraWeights]] = defaultdict(dict)
    for part, part_halves in halves.items():
        modules = dict(parts[part].named_modules())
        for layer, pair in part_halves.items():
            down, up = _fitting(part, layer, modules.get(layer), pair)
            alpha = layer_alphas.get((part, layer))
            found[part][layer] = LoraWeights(
                down, up, _configured_alpha(config, part, layer, len(down)) if alpha is None else alpha
            )
    return found


def _in_diffusers_naming(
    tensors: dict[str, Tensor], family: str, parts: dict[str, nn.Module]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights and alphas with keys of the form part.layer.something, whatever the file called them."""
    weights, alphas, others = _from_kohya(tensors, parts)
    if not others:
        return weights, alphas
    try:
        if family == "flux":
            converted, converted_alphas = FluxLoraLoaderMixin.lora_state_dict(others, return_alphas=True)
        elif family == "sd3":
            converted, converted_alphas = SD3LoraLoaderMixin.lora_state_dict(others), None
        else:
            # The config tells how the original code numbered the blocks.
            config = (parts.get("unet") or parts["base"]).config
            converted, converted_alphas = StableDiffusionXLLoraLoaderMixin.lora_state_dict(others, unet_config=config)
    except Exception as error:  # the converters raise whatever they stumble over
        raise _Misfit(f"its keys are not those of a LoRA for {family}") from error
    return weights | converted, alphas | (converted_alphas or {})


def _from_kohya(
    tensors: dict[str, Tensor], parts: dict[str, nn.Module]
) -> tuple[dict[str, Tensor], dict[str, Any], dict[str, Tensor]]:
    """The weights and alphas whose names are paths of layers with underscores, and all the other tensors."""
    denoiser = next(part for part in parts if not part.startswith("text_encoder"))
    paths = {(part, path.replace(".", "_")): path for part in parts for path, _ in parts[part].named_modules()}
    weights, alphas, others = {}, {}, {}
    for key, tensor in tensors.items():
        match = _KOHYA_KEY.fullmatch(key)
        part, name, end = (_KOHYA_PARTS.get(match[1], denoiser), match[2], match[3]) if match else ("", "", "")
        path = paths.get((part, name))
        if not path:
            others[key] = tensor
        elif end == "alpha":
            alphas[f"{part}.{path}.alpha"] = tensor
        else:
            weights[f"{part}.{path}.{_KOHYA_HALVES[end]}"] = tensor
    return weights, alphas, others


def _by_part(entries: dict[str, Any], family: str, parts: dict[str, nn.Module]) -> dict[tuple[str, str], Any]:
    """{(part, key in peft's naming): value}."""
    found = {}
    for name, value in entries.items():
        part, _, key = name.partition(".")
        if part == "unet" and "base" in parts:
            part = "base"
        if part not in parts:
            if part in _PARTS:
                raise _Misfit(f"it is for another family, as it changes a {part}")
            raise _Misfit(f"nothing is known of its key {name}")
        if part.startswith("text_encoder"):
            key = next(iter(convert_state_dict({key: None}, DIFFUSERS_OLD_TO_PEFT | DIFFUSERS_TO_PEFT)))
            if not hasattr(parts[part], "text_model"):
                key = key.removeprefix("text_model.")
        else:
            key = next(iter(convert_state_dict({key: None}, UNET_TO_DIFFUSERS)))
        found[part, key] = value
    return found


def _fitting(part: str, layer: str, module: nn.Module | None, pair: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Both halves, if they are there and fit the layer."""
    if isinstance(module, LoraLayer):
        module = module.get_base_layer()
    if not isinstance(module, nn.Linear | nn.Conv2d):
        raise _Misfit(f"it is for another family, as this {part} has no layer {layer}")
    if len(pair) < 2:
        raise _Misfit(f"half of its weights for {layer} are missing")
    down, up = pair["A"], pair["B"]
    rank = len(down) if down.ndim else 0
    # Both halves of a convolution are convolutions, of which the second is 1x1.
    kernel, one = (module.kernel_size, (1, 1)) if isinstance(module, nn.Conv2d) else ((), ())
    outputs, inputs = module.weight.shape[:2]
    if not rank or down.shape != (rank, inputs, *kernel) or up.shape != (outputs, rank, *one):
        raise _Misfit(f"its weights for {layer} do not have the shape of that layer, so it is for another checkpoint")
    return down, up


def _configured_alpha(config: dict[str, Any], part: str, layer: str, rank: int) -> float:
    """Alpha as peft's configuration in the file has it, in units of alpha / rank; without one, the rank."""
    own = {key.removeprefix(f"{part}."): value for key, value in config.items() if key.startswith(f"{part}.")}
    try:
        pattern = own.get("alpha_pattern", {})
        alpha = float(pattern.get(get_pattern_key(list(pattern), layer), own.get("lora_alpha", rank)))
    except (AttributeError, TypeError, ValueError, re.error) as error:
        raise _Misfit("its metadata is damaged") from error
    # Rank-stabilised (Kalajdzievski 2023) means alpha / sqrt(rank).
    return alpha * rank**0.5 if own.get("use_rslora") else alpha
