"""Single-file checkpoints of Stable Diffusion 1.x, 2.x and SDXL as diffusers components.

Their configs and CLIP's vocabulary are shipped, so no network is needed. diffusers' own converters rename the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders.single_file_utils import (
    convert_ldm_clip_checkpoint,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from t2i.api import CheckpointError
from t2i.checkpoints.detect import Found
from t2i.checkpoints.files import read_json
from t2i.checkpoints.folder import load_tokenizer, one_sentence, refuse_missing

CONFIGS = Path(__file__).parent / "configs"
_MERGES = CONFIGS / "clip_merges.txt"
_START, _END = "<|startoftext|>", "<|endoftext|>"
_CLIP_TOKENS = 77

Weights = Mapping[str, Tensor]

_UNET, _VAE = "model.diffusion_model.", "first_stage_model."
_OPEN_CLIP = ".model."
"""How the names of an OpenCLIP encoder begin, behind its place; those of OpenAI's with ".transformer."."""
_TEXT_ENCODERS: dict[str, list[tuple[str, type, str]]] = {
    "sd15": [("text_encoder", CLIPTextModel, "cond_stage_model.transformer.")],
    "sd21": [("text_encoder", CLIPTextModel, "cond_stage_model.model.")],
    "sdxl": [
        ("text_encoder", CLIPTextModel, "conditioner.embedders.0.transformer."),
        ("text_encoder_2", CLIPTextModelWithProjection, "conditioner.embedders.1.model."),
    ],
}


def load_single_file(
    found: Found, dtype: torch.dtype | None, vae_dtype: torch.dtype | None, configs: Path | None = None
) -> dict[str, Any]:
    """diffusers' components by name, on the CPU and in eval mode; None leaves weights in the file's own precision.

    `configs` is a folder laid out as those shipped, for a checkpoint of other dimensions. Raises CheckpointError where
    weights are missing or of another shape; then nothing stays loaded.
    """
    try:
        with safe_open(found.path, "pt") as file:
            names = list(file.keys())

            def read(prefix: str) -> Weights:
                return {name: file.get_tensor(name) for name in names if name.startswith(prefix)}

            return assemble(found, read, dtype, vae_dtype, configs or CONFIGS / found.config)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{found.path.name} cannot be read: {error}") from error


def assemble(
    found: Found,
    read: Callable[[str], Weights],
    dtype: torch.dtype | None,
    vae_dtype: torch.dtype | None,
    configs: Path,
) -> dict[str, Any]:
    """The components of a file whose weights `read` gives by the beginning of their names, one part after the other.

    Raises as `load_single_file` does.
    """
    name = found.path.name
    unet = _empty(
        UNet2DConditionModel.from_config,
        {**read_json(configs / "unet" / "config.json"), "in_channels": found.in_channels},
    )
    vae = _empty(AutoencoderKL.from_config, read_json(configs / "vae" / "config.json"))
    parts: dict[str, Any] = {
        "unet": _fill(
            unet, lambda: convert_ldm_unet_checkpoint(read(_UNET), unet.config), dtype, f"The unet of {name}"
        ),
        "vae": _fill(vae, lambda: convert_ldm_vae_checkpoint(read(_VAE), vae.config), vae_dtype, f"The vae of {name}"),
    }
    for part, kind, prefix in _TEXT_ENCODERS[found.config]:
        encoder = _empty(kind, CLIPTextConfig(**read_json(configs / part / "config.json")))
        parts[part] = _fill(encoder, partial(_text_weights, encoder, read, prefix), dtype, f"The {part} of {name}")
        parts[part.replace("text_encoder", "tokenizer")] = _tokenizer(part, prefix, configs)
    return parts


def clip_tokenizer(pad_token: str = _END) -> CLIPTokenizer:
    """CLIP's tokenizer: 49,408 tokens, of which the first 512 are bytes, alone and at the end of a word."""
    merges = [tuple(line.split()) for line in _MERGES.read_text(encoding="utf-8").splitlines()]
    characters = _byte_characters()
    words = [*characters, *(f"{character}</w>" for character in characters), *map("".join, merges), _START, _END]
    vocabulary = {word: index for index, word in enumerate(words)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=_CLIP_TOKENS, pad_token=pad_token)


def _byte_characters() -> list[str]:
    """A printable character for each of the 256 bytes, in the order of CLIP's vocabulary (Radford 2019, GPT-2)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [chr(byte) for byte in printable] + [chr(256 + index) for index in range(256 - len(printable))]


def _text_weights(encoder: nn.Module, read: Callable[[str], Weights], prefix: str) -> Weights:
    weights: Weights
    if prefix.endswith(_OPEN_CLIP):
        weights = convert_open_clip_checkpoint(encoder, read(prefix), prefix=prefix)
    else:
        weights = convert_ldm_clip_checkpoint(read(prefix))
    return weights


def _tokenizer(part: str, prefix: str, configs: Path) -> Any:
    own = configs / part.replace("text_encoder", "tokenizer")
    if own.is_dir():
        return load_tokenizer(CLIPTokenizer, own)
    # OpenCLIP's encoders were trained with zeros behind the text, OpenAI's with its end.
    return clip_tokenizer("!" if prefix.endswith(_OPEN_CLIP) else _END)


def _empty(build: Callable[..., Any], config: Any) -> Any:
    """A module that takes no memory yet; its buffers do."""
    with init_empty_weights(include_buffers=False):
        return build(config)


def _fill(module: nn.Module, convert: Callable[[], Weights], dtype: torch.dtype | None, shown: str) -> nn.Module:
    wanted = module.state_dict()
    with one_sentence(f"{shown} cannot be read: its weights are not named as they should be"):
        weights = {_name_in(wanted, name): weight for name, weight in convert().items()}
    refuse_missing(shown, [name for name in wanted if weights.get(name) is None])
    misfits = [name for name, weight in wanted.items() if weights[name].shape != weight.shape]
    if misfits:
        name = misfits[0]
        raise CheckpointError(
            f"{shown} does not fit: {len(misfits)} of its weights have another shape, such as {name} with "
            f"{tuple(weights[name].shape)} instead of {tuple(wanted[name].shape)}."
        )
    kept = {name: weights[name] if dtype is None else weights[name].to(dtype) for name in wanted}
    module.load_state_dict(kept, assign=True)
    return module.eval().requires_grad_(False)


def _name_in(wanted: Mapping[str, Tensor], name: str) -> str:
    """A weight's name with or without "text_model.", as this release of transformers has it."""
    name = name.removeprefix("text_model.")
    return name if name in wanted else f"text_model.{name}"
