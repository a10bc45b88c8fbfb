"""Single files: the same weights as diffusers' folders, and the shipped configs those of the published models."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from t2i.api import CheckpointError
from t2i.checkpoints import load
from t2i.checkpoints.detect import detect, detect_header
from t2i.checkpoints.files import Header, TensorInfo
from t2i.checkpoints.folder import load_folder
from t2i.checkpoints.single_file import CONFIGS, assemble, clip_tokenizer, load_single_file
from tests.t2i.checkpoints import originals

Single = Callable[[str], tuple[Path, Path]]

PARAMETERS = {
    "sd15/unet": 859_520_964,
    "sd15/vae": 83_653_863,
    "sd15/text_encoder": 123_060_480,
    "sd21/unet": 865_910_724,
    "sd21/vae": 83_653_863,
    "sd21/text_encoder": 340_387_840,
    "sdxl/unet": 2_567_463_684,
    "sdxl/vae": 83_653_863,
    "sdxl/text_encoder": 123_060_480,
    "sdxl/text_encoder_2": 694_659_840,
}
"""As published, counted by whoever built them."""


def module_of(part: str) -> Any:
    """A part of a shipped config, without memory."""
    config = json.loads((CONFIGS / part / "config.json").read_text())
    with torch.device("meta"):
        if part.endswith("unet"):
            return UNet2DConditionModel.from_config(config)
        if part.endswith("vae"):
            return AutoencoderKL.from_config(config)
        projects = config["architectures"] == ["CLIPTextModelWithProjection"]
        return (CLIPTextModelWithProjection if projects else CLIPTextModel)(CLIPTextConfig(**config))


@pytest.mark.parametrize("part", PARAMETERS)
def test_the_shipped_configs_have_the_parameters_of_the_published_models(part: str) -> None:
    assert sum(weight.numel() for weight in module_of(part).parameters()) == PARAMETERS[part]


@pytest.mark.parametrize(
    ("config", "original"),
    [("sd15", originals.stable_diffusion_1), ("sd21", originals.stable_diffusion_2), ("sdxl", originals.sdxl)],
)
def test_a_file_of_full_size_fills_the_shipped_configs(
    config: str, original: Callable[[dict[str, Any]], dict[str, torch.Tensor]]
) -> None:
    modules = {part.partition("/")[2]: module_of(part) for part in PARAMETERS if part.startswith(config)}
    weights = original(modules)  # without memory, as the modules are
    header = Header({name: TensorInfo("F32", tuple(weight.shape)) for name, weight in weights.items()}, {})
    found = detect_header(Path("full.safetensors"), header)
    assert found.config == config

    def read(prefix: str) -> dict[str, torch.Tensor]:
        return {name: weight for name, weight in weights.items() if name.startswith(prefix)}

    parts = assemble(found, read, torch.float16, torch.float32, CONFIGS / config)
    for name, module in modules.items():
        expected = {key: weight.shape for key, weight in module.state_dict().items()}
        assert {key: weight.shape for key, weight in parts[name].state_dict().items()} == expected
        assert not any(buffer.is_meta for buffer in parts[name].buffers())


def test_clips_tokenizer_knows_the_published_numbers() -> None:
    tokenizer = clip_tokenizer()
    assert tokenizer("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert len(tokenizer) == 49408
    assert tokenizer.decode(tokenizer("Überraschung, 25 € 🎉").input_ids, skip_special_tokens=True) == (
        "überraschung , 2 5 € 🎉"
    )
    assert tokenizer("cat", padding="max_length").input_ids[-1] == 49407


@pytest.mark.parametrize(("config", "part"), [("sd21", "tokenizer"), ("sdxl", "tokenizer_2")])
def test_open_clips_text_is_padded_with_zeros(config: str, part: str, single: Single, tmp_path: Path) -> None:
    file, folder = single(config)
    configs = tmp_path / "configs"
    for name in ("unet", "vae", "text_encoder", "text_encoder_2"):
        if (folder / name).is_dir():
            (configs / name).mkdir(parents=True)
            (configs / name / "config.json").write_bytes((folder / name / "config.json").read_bytes())
    tokenizer = load_single_file(detect(file), None, None, configs)[part]
    assert tokenizer("cat", padding="max_length").input_ids[1:4] == [2368, 49407, 0]


@pytest.mark.parametrize("name", ["sd15", "sd15-inpaint", "sd21", "sdxl"])
def test_a_single_file_gives_the_weights_of_the_folder(name: str, single: Single) -> None:
    file, folder = single(name)
    ours = load_single_file(detect(file), torch.float32, torch.float32, folder)
    theirs = load_folder(detect(folder), torch.float32, torch.float32)
    assert ours.keys() == theirs.keys()
    for part, module in theirs.items():
        if part.startswith("tokenizer"):
            assert ours[part]("a cat").input_ids == module("a cat").input_ids
            continue
        states = ours[part].state_dict()
        assert states.keys() == module.state_dict().keys()
        for key, weight in module.state_dict().items():
            assert torch.equal(states[key], weight), f"{part}.{key}"
        assert not ours[part].training


def test_a_single_file_is_loaded_in_the_precision_that_is_wanted(single: Single) -> None:
    file, folder = single("sdxl")
    parts = load_single_file(detect(file), torch.float16, torch.float32, folder)
    assert {weight.dtype for weight in parts["unet"].parameters()} == {torch.float16}
    assert {weight.dtype for weight in parts["vae"].parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("prefix", "message"),
    [
        (
            "model.diffusion_model.out.0",
            "The unet of broken.safetensors is incomplete: it lacks 2 weights, such as conv_norm",
        ),
        ("first_stage_model.decoder.mid.block_1", "The vae of broken.safetensors is incomplete: it lacks 8 weights"),
        ("model.diffusion_model.label_emb", "The unet of broken.safetensors cannot be read"),
        (
            "conditioner.embedders.1.model.ln_final.bias",
            "The text_encoder_2 of .* lacks a weight, such as .*layer_norm",
        ),
        ("conditioner.embedders.0.transformer.text_model.encoder.layers.1", "The text_encoder of .* lacks 16 weights"),
    ],
)
def test_missing_weights_are_counted_and_one_is_named(
    prefix: str, message: str, single: Single, tmp_path: Path
) -> None:
    file, folder = single("sdxl")
    kept = {key: weight for key, weight in load_file(file).items() if not key.startswith(prefix)}
    save_file(kept, tmp_path / "broken.safetensors")
    with pytest.raises(CheckpointError, match=message):
        load_single_file(detect(tmp_path / "broken.safetensors"), None, None, folder)


def test_a_file_of_other_dimensions_than_its_kind_has_is_refused(single: Single) -> None:
    file, _ = single("sd15")
    with pytest.raises(CheckpointError, match=r"The unet of sd15.safetensors (is incomplete|does not fit)"):
        load(file, device="cpu")


def test_weights_of_another_shape_are_counted_and_one_is_named(single: Single, tmp_path: Path) -> None:
    file, folder = single("sd15")
    weights = load_file(file)
    weights["model.diffusion_model.out.2.bias"] = torch.zeros(5)
    save_file(weights, tmp_path / "broken.safetensors")
    with pytest.raises(CheckpointError, match=r"1 of its weights have .* conv_out.bias with \(5,\) instead of \(4,\)"):
        load_single_file(detect(tmp_path / "broken.safetensors"), None, None, folder)
