"""What a path is: a diffusers folder, a single file, a LoRA, or nothing that can be loaded.

Only JSON and safetensors headers are read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from t2i.api import CheckpointError
from t2i.checkpoints.files import Header, number, read_header, read_json, weight_files

Family = Literal["cascade", "sd", "sdxl", "sd3", "flux", "pipeline"]
Naming = Literal["diffusers", "peft", "kohya"]

_FAMILIES: dict[str, Family] = {
    "CascadePipeline": "cascade",
    **{f"StableDiffusion{kind}Pipeline": "sd" for kind in ("", "Img2Img", "Inpaint")},
    **{f"StableDiffusionXL{kind}Pipeline": "sdxl" for kind in ("", "Img2Img", "Inpaint")},
    **{f"StableDiffusion3{kind}Pipeline": "sd3" for kind in ("", "Img2Img", "Inpaint")},
    **{f"Flux{kind}Pipeline": "flux" for kind in ("", "Img2Img", "Inpaint")},
}
_UNET_FAMILIES = ("sd", "sdxl")
_DENOISERS = {
    "sd": ("unet", "UNet2DConditionModel"),
    "sdxl": ("unet", "UNet2DConditionModel"),
    "sd3": ("transformer", "SD3Transformer2DModel"),
    "flux": ("transformer", "FluxTransformer2DModel"),
}
_TEXT_ENCODERS = {"sd": 1, "sdxl": 2, "sd3": 3, "flux": 2}
_CONTEXT_WIDTHS: dict[int, Family] = {768: "sd", 1024: "sd", 2048: "sdxl"}
"""Channels of the text that the cross-attention of SD1, SD2 and SDXL reads."""


@dataclass(frozen=True, slots=True)
class Found:
    """`config` names the shipped configs of a single file: sd15, sd21 or sdxl. `index` is a folder's model_index.json.
    Single files of networks that predict the velocity, from pure noise on, say so by an empty tensor each.

    A LoRA's `family` is None where its keys do not tell, `context_width` the channels of the text it was trained on
    (768 SD1, 1024 SD2, 2048 SDXL) and 0 where it touches no cross-attention.
    """

    path: Path
    kind: Literal["folder", "file", "lora"]
    family: Family | None
    index: dict[str, Any] = field(default_factory=dict)
    config: str = ""
    in_channels: int = 4
    v_prediction: bool = False
    zero_terminal_snr: bool = False
    naming: Naming | None = None
    context_width: int = 0


def detect(path: Path) -> Found:
    """Raises CheckpointError with one sentence for what cannot be loaded."""
    if path.is_dir():
        return _detect_folder(path)
    if not path.is_file():
        raise CheckpointError(f"There is no file or folder {path}.")
    return detect_header(path, read_header(path))


def detect_header(path: Path, header: Header) -> Found:
    """What a safetensors file with this header is."""
    for mark, kind in _OTHER_ADAPTERS.items():
        if any(mark in key for key in header.tensors):
            raise CheckpointError(f"{path.name} is a {kind}; of such files only plain LoRAs can be loaded.")
    if any(_is_lora_key(key) for key in header.tensors):
        return _detect_lora(path, header)
    return _detect_single_file(path, header)


# --- folders --------------------------------------------------------------------------------------------------------

_WEIGHTLESS = ("Scheduler", "Tokenizer", "TokenizerFast", "Processor", "ProcessorFast", "Extractor")


def components(found: Found) -> Iterator[tuple[str, str, str]]:
    """(name, library, class name) of the parts that a folder's model_index.json lists and that are not null."""
    for name, value in found.index.items():
        if isinstance(value, list) and len(value) == 2 and value[0] is not None:
            yield name, str(value[0]), str(value[1])


def _detect_folder(folder: Path) -> Found:
    if not (folder / "model_index.json").is_file():
        raise CheckpointError(f"{folder.name} is no checkpoint: it has no model_index.json.")
    try:
        index = read_json(folder / "model_index.json")
    except CheckpointError as error:
        raise CheckpointError(f"{folder.name} has no readable model_index.json.") from error
    class_name = str(index.get("_class_name"))
    family = _FAMILIES.get(class_name)
    if family == "cascade":
        return Found(folder, "folder", family, index)
    if family is None:
        from t2i.families.pipeline import read_call

        read_call(folder)
        family = "pipeline"
    found = Found(folder, "folder", family, index)
    if family != "pipeline":
        found = _check_family(found)
    for name, library, kind in components(found):
        if library in ("diffusers", "transformers") and not kind.endswith(_WEIGHTLESS):
            weight_files(folder / name)
    return found


def _check_family(found: Found) -> Found:
    """The parts that the family needs are there and fit each other; what fits only diffusers' own pipeline is one."""
    folder, family = found.path, found.family
    assert family in _DENOISERS
    parts = {name: kind for name, _, kind in components(found)}
    denoiser, denoiser_class = _DENOISERS[family]
    if family == "sdxl" and "text_encoder" not in parts and "text_encoder_2" in parts:
        raise _refiner(folder.name)
    encoders = ["text_encoder", "text_encoder_2", "text_encoder_3"][: _TEXT_ENCODERS[family]]
    if family == "sd3" and found.index.get("text_encoder_3") == [None, None]:
        encoders.pop()  # SD3 without its largest text encoder still draws.
    tokenizers = [encoder.replace("text_encoder", "tokenizer") for encoder in encoders]
    for name in (denoiser, "vae", *encoders, *tokenizers, "scheduler"):
        if name not in parts:
            raise CheckpointError(f"{folder.name} is incomplete: its model_index.json names no {name}.")
        if not (folder / name).is_dir():
            raise CheckpointError(f"{folder.name} is incomplete: its folder {name} is missing.")
    for name, wanted in ((denoiser, denoiser_class), ("vae", "AutoencoderKL")):
        if parts[name] != wanted:
            raise CheckpointError(f"The {name} of {folder.name} is a {parts[name]}, where a {wanted} is needed.")
    configs = {name: read_json(folder / name / "config.json") for name in (denoiser, "vae", *encoders)}
    read_json(folder / "scheduler" / "scheduler_config.json")
    if family in _UNET_FAMILIES and configs["unet"].get("time_cond_proj_dim"):
        return Found(folder, "folder", "pipeline", found.index)
    _check_widths(folder, family, denoiser, configs)
    return Found(folder, "folder", family, found.index, in_channels=int(number(configs[denoiser], "in_channels", 4)))


def _check_widths(folder: Path, family: str, denoiser: str, configs: dict[str, dict[str, Any]]) -> None:
    """The denoiser reads text as wide as the text encoders give it."""
    encoders = [config for name, config in configs.items() if name.startswith("text_encoder")]
    hidden = [number(config, "hidden_size", number(config, "d_model", 0)) for config in encoders]
    reads = configs[denoiser].get("cross_attention_dim" if family in _UNET_FAMILIES else "joint_attention_dim")
    gives = {"sd": hidden[0], "sdxl": sum(hidden[:2]), "sd3": hidden[-1], "flux": hidden[-1]}[family]
    if reads != gives and not (family == "sd3" and len(hidden) == 2):
        raise CheckpointError(
            f"The parts of {folder.name} do not belong together: its {denoiser} reads text of {reads} channels, "
            f"its text encoders give {gives}."
        )
    extra = configs[denoiser].get("addition_embed_type")
    if family in _UNET_FAMILIES and (extra == "text_time") != (family == "sdxl"):
        raise CheckpointError(f"The unet of {folder.name} belongs to another family than its model_index.json says.")


def _refiner(name: str) -> CheckpointError:
    return CheckpointError(f"{name} is the SDXL refiner, which draws no picture of its own; load the base model.")


# --- single files ---------------------------------------------------------------------------------------------------

_UNET = "model.diffusion_model."
_VAE = "first_stage_model."
_TEXT_KEYS: dict[str, tuple[Family, str]] = {
    "cond_stage_model.transformer.": ("sd", "sd15"),
    "cond_stage_model.model.": ("sd", "sd21"),
    "conditioner.embedders.1.model.": ("sdxl", "sdxl"),
}
_FOREIGN_KEYS = {
    "double_blocks.": "a FLUX transformer without its other parts; load the diffusers folder of the model instead",
    "joint_blocks.": "a Stable Diffusion 3 single file; load the diffusers folder of the model instead",
    "down_blocks.": "one part of a diffusers folder; load the folder that has the model_index.json",
    "transformer_blocks.": "one part of a diffusers folder; load the folder that has the model_index.json",
    "control_model.": "a ControlNet, which draws no picture of its own",
}


def _detect_single_file(path: Path, header: Header) -> Found:
    keys = header.tensors
    first = keys.get(f"{_UNET}input_blocks.0.0.weight")
    if first is None or len(first.shape) != 4:
        for prefix, what in _FOREIGN_KEYS.items():
            if any(key.removeprefix(_UNET).startswith(prefix) for key in keys):
                raise CheckpointError(f"{path.name} is {what}.")
        example = next(iter(keys), None)
        says = f"its first tensor is named {example}" if example else "it holds no tensors"
        raise CheckpointError(f"{path.name} is of no kind that can be loaded: {says}.")
    kinds = (kind for prefix, kind in _TEXT_KEYS.items() if any(key.startswith(prefix) for key in keys))
    family, config = next(kinds, (None, ""))
    if family is None:
        if any(key.startswith("conditioner.embedders.0.model.") for key in keys):
            raise _refiner(path.name)
        raise CheckpointError(f"{path.name} lacks its text encoder; only whole checkpoints can be loaded.")
    if not any(key.startswith(_VAE) for key in keys):
        raise CheckpointError(f"{path.name} lacks its autoencoder; only whole checkpoints can be loaded.")
    if first.shape[1] not in (4, 9):
        raise CheckpointError(
            f"The unet of {path.name} reads {first.shape[1]} channels; only those with 4, or 9 for inpainting, draw."
        )
    return Found(
        path,
        "file",
        family,
        config=config,
        in_channels=first.shape[1],
        v_prediction="v_pred" in keys,
        zero_terminal_snr="ztsnr" in keys,
    )


# --- LoRAs ----------------------------------------------------------------------------------------------------------

_KOHYA = ("lora_unet_", "lora_te_", "lora_te1_", "lora_te2_", "lora_te3_", "lora_transformer_")
_PEFT = (".lora_A.", ".lora_B.")
_DIFFUSERS = (".lora.down.", ".lora.up.", "_lora.down.", "_lora.up.", "lora_linear_layer.")

_OTHER_ADAPTERS = {"lokr_w": "LoKr", "hada_w": "LoHa", "dora_scale": "DoRA", "lora_magnitude_vector": "DoRA"}
_JOINT_ATTENTION = re.compile(r"transformer_blocks[._]\d+[._]attn[._]to_q")
_FLUX_WIDTH = 3072


def _is_lora_key(key: str) -> bool:
    return key.startswith(_KOHYA) or any(mark in key for mark in (*_PEFT, *_DIFFUSERS, ".lora_down.", ".lora_up."))


def _detect_lora(path: Path, header: Header) -> Found:
    keys = header.tensors
    naming: Naming = "kohya"
    if any(mark in key for key in keys for mark in _PEFT):
        naming = "peft"
    elif any(mark in key for key in keys for mark in _DIFFUSERS):
        naming = "diffusers"
    width = next((info.shape[-1] for key, info in keys.items() if _reads_text(key)), 0)
    return Found(path, "lora", _lora_family(header, width), naming=naming, context_width=width)


def _reads_text(key: str) -> bool:
    return _is_down(key) and any(mark in key for mark in ("attn2.to_k", "attn2_to_k", "attn2.processor.to_k"))


def _is_down(key: str) -> bool:
    """Whether a tensor is the half that reads a layer's input, as wide as that."""
    return any(mark in key for mark in ("lora_A", "lora_down", "lora.down"))


def _lora_family(header: Header, context_width: int) -> Family | None:
    keys = header.tensors
    if any(mark in key for key in keys for mark in ("single_transformer_blocks", "double_blocks", "single_blocks")):
        return "flux"
    if any("joint_blocks" in key for key in keys):
        return "sd3"
    joint = [info.shape[-1] for key, info in keys.items() if _is_down(key) and _JOINT_ATTENTION.search(key)]
    if joint:
        return "flux" if _FLUX_WIDTH in joint else "sd3"
    if any(mark in key for key in keys for mark in ("lora_te2_", "text_encoder_2.", "lora_unet_input_blocks_")):
        return "sdxl"
    return _CONTEXT_WIDTHS.get(context_width)
