"""What a path is, and the sentence for everything that cannot be loaded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from t2i.api import CheckpointError
from t2i.checkpoints import EMBEDDED, available, describe
from t2i.checkpoints.detect import detect
from t2i.checkpoints.info import scheduler_config
from t2i.checkpoints.schedulers import read_scheduler

Saved = Callable[[str], Path]
Single = Callable[[str], tuple[Path, Path]]


def refused(path: Path, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        describe(path)


def edit(config: Path, **changes: object) -> None:
    config.write_text(json.dumps({**json.loads(config.read_text()), **changes}))


def write(path: Path, **shapes: tuple[int, ...]) -> Path:
    save_file({name.replace("/", "."): torch.zeros(shape) for name, shape in shapes.items()}, path)
    return path


@pytest.mark.parametrize(
    ("name", "family"),
    [("sd", "sd"), ("sd-v", "sd"), ("sd-inpaint", "sd"), ("sdxl", "sdxl"), ("sd3", "sd3"), ("flux", "flux")],
)
def test_a_diffusers_folder_is_known_by_its_class(name: str, family: str, saved: Saved) -> None:
    found = detect(saved(name))
    assert (found.kind, found.family) == ("folder", family)
    assert describe(saved(name)).family == family


def test_the_embedded_checkpoint_is_a_cascade() -> None:
    assert detect(available()[EMBEDDED]).family == "cascade"


@pytest.mark.parametrize("kind", ["Img2Img", "Inpaint"])
@pytest.mark.parametrize(("name", "stem"), [("sd", "StableDiffusion"), ("sdxl", "StableDiffusionXL")])
def test_the_siblings_of_a_class_are_of_its_family(
    name: str, stem: str, kind: str, copy_of: Callable[[str], Path]
) -> None:
    folder = copy_of(name)
    edit(folder / "model_index.json", _class_name=f"{stem}{kind}Pipeline")
    assert detect(folder).family == name


def test_any_other_text_to_image_class_of_diffusers_is_a_pipeline(copy_of: Callable[[str], Path]) -> None:
    folder = copy_of("sd")
    edit(folder / "model_index.json", _class_name="StableDiffusionSAGPipeline")
    assert detect(folder).family == "pipeline"


def test_a_unet_that_is_told_its_guidance_is_left_to_diffusers(copy_of: Callable[[str], Path]) -> None:
    folder = copy_of("sd")
    edit(folder / "unet" / "config.json", time_cond_proj_dim=256)
    assert detect(folder).family == "pipeline"


def test_a_class_that_diffusers_does_not_know_is_refused(copy_of: Callable[[str], Path]) -> None:
    folder = copy_of("sd")
    edit(folder / "model_index.json", _class_name="NoSuchPipeline")
    refused(folder, "sd is a NoSuchPipeline, which diffusers .* does not know")


def test_a_folder_without_an_index_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, "is no checkpoint: it has no model_index.json")


@pytest.mark.parametrize("text", ["{", "[]"])
def test_an_unreadable_index_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text(text)
    refused(tmp_path, "has no readable model_index.json")


def test_a_path_to_nothing_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "nothing.safetensors", "There is no file or folder")


@pytest.mark.parametrize("part", ["unet", "text_encoder_2", "tokenizer", "scheduler", "vae"])
def test_a_missing_part_is_named(part: str, copy_of: Callable[[str], Path]) -> None:
    folder = copy_of("sdxl")
    shutil.rmtree(folder / part)
    refused(folder, f"sdxl is incomplete: its folder {part} is missing")


@pytest.mark.parametrize("file", ["unet/config.json", "vae/config.json", "scheduler/scheduler_config.json"])
def test_a_missing_config_is_named(file: str, copy_of: Callable[[str], Path]) -> None:
    folder = copy_of("sd")
    (folder / file).unlink()
    refused(folder, f"{file} is missing")


def test_a_part_that_the_index_does_not_name_is_named(copy_of: Callable[[str], Path]) -> None:
    folder = copy_of("sd")
    edit(folder / "model_index.json", text_encoder=[None, None])
    refused(folder, "sd is incomplete: its model_index.json names no text_encoder")


def test_a_part_of_another_class_is_named(copy_of: Callable[[str], Path]) -> None:
    folder = copy_of("sd")
    edit(folder / "model_index.json", vae=["diffusers", "AutoencoderTiny"])
    refused(folder, "The vae of sd is a AutoencoderTiny, where a AutoencoderKL is needed")


@pytest.mark.parametrize(
    ("name", "config", "change"),
    [
        ("sd", "unet", {"cross_attention_dim": 2048}),
        ("sdxl", "unet", {"cross_attention_dim": 768}),
        ("sd3", "transformer", {"joint_attention_dim": 4096}),
        ("flux", "transformer", {"joint_attention_dim": 4096}),
    ],
)
def test_parts_of_different_families_are_refused(
    name: str, config: str, change: dict[str, int], copy_of: Callable[[str], Path]
) -> None:
    folder = copy_of(name)
    edit(folder / config / "config.json", **change)
    (width,) = change.values()
    refused(folder, f"The parts of {name} do not belong together: its {config} reads text of {width} channels")


def test_a_unet_of_sdxl_in_stable_diffusion_is_refused(copy_of: Callable[[str], Path]) -> None:
    folder = copy_of("sd")
    edit(folder / "unet" / "config.json", addition_embed_type="text_time")
    refused(folder, "The unet of sd belongs to another family")


@pytest.mark.parametrize("value", ["x", [1, 2], -3, True])
@pytest.mark.parametrize(
    ("config", "key"),
    [
        ("unet/config.json", "sample_size"),
        ("text_encoder/config.json", "hidden_size"),
        ("scheduler/scheduler_config.json", "steps_offset"),
        ("scheduler/scheduler_config.json", "num_train_timesteps"),
    ],
)
def test_a_config_that_has_no_number_where_one_belongs_is_refused(
    config: str, key: str, value: object, copy_of: Callable[[str], Path]
) -> None:
    folder = copy_of("sd")
    edit(folder / config, **{key: value})
    refused(folder, f"A config of .* has {key} = .*, which cannot be")


def test_the_refiners_folder_is_refused(copy_of: Callable[[str], Path]) -> None:
    folder = copy_of("sdxl")
    edit(folder / "model_index.json", _class_name="StableDiffusionXLImg2ImgPipeline", text_encoder=[None, None])
    refused(folder, "sdxl is the SDXL refiner")


def test_weights_as_a_pickle_alone_are_refused(copy_of: Callable[[str], Path]) -> None:
    folder = copy_of("sd")
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    refused(folder, "sd/unet has its weights as a pickle only; get the safetensors version")


def test_a_part_without_weights_is_refused(copy_of: Callable[[str], Path]) -> None:
    folder = copy_of("sd")
    (folder / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    refused(folder, "sd/vae has no weights")


def test_a_missing_shard_is_noticed(copy_of: Callable[[str], Path]) -> None:
    folder = copy_of("sd")
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_name("diffusion_pytorch_model-00001-of-00003.safetensors"))
    refused(folder, "sd/unet is incomplete: it has 1 of 3 weight files")


# --- single files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "family", "config", "channels"),
    [
        ("sd15", "sd", "sd15", 4),
        ("sd15-inpaint", "sd", "sd15", 9),
        ("sd21", "sd", "sd21", 4),
        ("sdxl", "sdxl", "sdxl", 4),
    ],
)
def test_a_single_file_is_known_by_its_keys(name: str, family: str, config: str, channels: int, single: Single) -> None:
    found = detect(single(name)[0])
    assert (found.kind, found.family, found.config, found.in_channels) == ("file", family, config, channels)


def test_sizes_of_single_files_are_those_of_their_kind(single: Single) -> None:
    sizes = {name: describe(single(name)[0]).sizes for name in ("sd15", "sd21", "sdxl")}
    assert sizes == {"sd15": (512,), "sd21": (768,), "sdxl": (1024,)}


def test_a_single_file_says_that_it_predicts_the_velocity_from_pure_noise_on(single: Single, tmp_path: Path) -> None:
    weights = load_file(single("sdxl")[0]) | {"v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)}
    save_file(weights, tmp_path / "velocity.safetensors")
    found = detect(tmp_path / "velocity.safetensors")
    schedule, prediction, _ = read_scheduler(scheduler_config(found, None))
    assert prediction == "v_prediction"
    assert schedule.alpha[-1] == 0
    assert (describe(found.path).sampler, describe(found.path).steps) == ("euler", 25)


@pytest.mark.parametrize("suffix", [".ckpt", ".pt", ".pth", ".bin"])
def test_pickles_are_refused_by_their_names(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"model{suffix}"
    file.write_bytes(b"anything")
    refused(file, f"model{suffix} is a pickle, which can run any code")


@pytest.mark.parametrize("legacy", [False, True])
def test_pickles_are_refused_by_what_they_hold(legacy: bool, tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    torch.save({"state_dict": {}}, file, _use_new_zipfile_serialization=not legacy)
    refused(file, r"model.safetensors is a pickle")


def test_another_file_named_safetensors_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    refused(file, r"model.safetensors is not a safetensors file")
    file.write_bytes(b"")
    refused(file, r"model.safetensors is not a safetensors file")
    file.write_bytes((20).to_bytes(8, "little") + b'{"weight": "nothing"' + bytes(20))
    refused(file, r"model.safetensors is not a safetensors file: its header")


@pytest.mark.parametrize("kept", [-1, 1000])
def test_a_truncated_file_is_refused(kept: int, single: Single, tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(single("sd15")[0].read_bytes()[:kept])
    refused(file, r"model.safetensors is truncated")


def test_a_file_longer_than_its_header_says_is_refused(single: Single, tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(single("sd15")[0].read_bytes() + b"more")
    refused(file, r"model.safetensors is damaged: it has [\d,]+ bytes where its header says")


def without(single: Single, name: str, prefix: str, tmp_path: Path) -> Path:
    weights = load_file(single(name)[0])
    save_file(
        {key: weight for key, weight in weights.items() if not key.startswith(prefix)}, tmp_path / "m.safetensors"
    )
    return tmp_path / "m.safetensors"


def test_the_refiners_file_is_refused(single: Single, tmp_path: Path) -> None:
    weights = load_file(single("sdxl")[0])
    kept = {key: weight for key, weight in weights.items() if not key.startswith("conditioner.embedders.0.")}
    refiner = {key.replace("embedders.1.", "embedders.0."): weight for key, weight in kept.items()}
    save_file(refiner, tmp_path / "refiner.safetensors")
    refused(tmp_path / "refiner.safetensors", "is the SDXL refiner, which draws no picture of its own")


def test_a_file_that_lacks_a_part_is_refused(single: Single, tmp_path: Path) -> None:
    refused(without(single, "sd15", "cond_stage_model.", tmp_path), "lacks its text encoder")
    refused(without(single, "sd15", "first_stage_model.", tmp_path), "lacks its autoencoder")


@pytest.mark.parametrize(
    ("key", "what"),
    [
        ("double_blocks/0/img_attn/qkv/weight", "a FLUX transformer without its other parts"),
        ("model/diffusion_model/double_blocks/0/img_attn/qkv/weight", "a FLUX transformer without its other parts"),
        ("model/diffusion_model/joint_blocks/0/x_block/attn/qkv/weight", "a Stable Diffusion 3 single file"),
        ("down_blocks/0/resnets/0/conv1/weight", "one part of a diffusers folder"),
        ("control_model/time_embed/0/weight", "a ControlNet"),
        ("something/else", "of no kind that can be loaded: its first tensor is named something.else"),
    ],
)
def test_files_of_other_kinds_are_refused_by_what_they_are(key: str, what: str, tmp_path: Path) -> None:
    refused(write(tmp_path / "model.safetensors", **{key: (2, 2)}), f"model.safetensors is {what}")


def test_a_unet_that_reads_neither_a_picture_nor_a_mask_is_refused(single: Single, tmp_path: Path) -> None:
    weights = load_file(single("sd15")[0])
    weights["model.diffusion_model.input_blocks.0.0.weight"] = torch.zeros(16, 5, 3, 3)
    save_file(weights, tmp_path / "depth.safetensors")
    refused(tmp_path / "depth.safetensors", "reads 5 channels")


# --- LoRAs ----------------------------------------------------------------------------------------------------------

_UNET_LAYER = "down_blocks/0/attentions/0/transformer_blocks/0/attn2/to_k"
_KOHYA_LAYER = _UNET_LAYER.replace("/", "_")


@pytest.mark.parametrize(
    ("key", "width", "naming", "family"),
    [
        (f"lora_unet_{_KOHYA_LAYER}/lora_down/weight", 768, "kohya", "sd"),
        (f"lora_unet_{_KOHYA_LAYER}/lora_down/weight", 1024, "kohya", "sd"),
        (f"lora_unet_{_KOHYA_LAYER}/lora_down/weight", 2048, "kohya", "sdxl"),
        (f"lora_unet_{_KOHYA_LAYER}/lora_down/weight", 32, "kohya", None),
        ("lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k/lora_down/weight", 2048, "kohya", "sdxl"),
        ("lora_te2_text_model_encoder_layers_0_mlp_fc1/lora_down/weight", 1280, "kohya", "sdxl"),
        ("lora_unet_double_blocks_0_img_attn_qkv/lora_down/weight", 3072, "kohya", "flux"),
        ("lora_unet_joint_blocks_0_x_block_attn_qkv/lora_down/weight", 1536, "kohya", "sd3"),
        (f"unet/{_UNET_LAYER}/lora_A/weight", 768, "peft", "sd"),
        (f"base_model/model/{_UNET_LAYER}/lora_A/weight", 2048, "peft", "sdxl"),
        ("transformer/transformer_blocks/0/attn/to_q/lora_A/weight", 1536, "peft", "sd3"),
        ("transformer/transformer_blocks/0/attn/to_q/lora_A/weight", 3072, "peft", "flux"),
        ("transformer/single_transformer_blocks/0/attn/to_q/lora_A/weight", 32, "peft", "flux"),
        (f"unet/{_UNET_LAYER}/lora/down/weight", 1024, "diffusers", "sd"),
        (f"unet/{_UNET_LAYER.replace('to_k', 'processor/to_k_lora')}/down/weight", 768, "diffusers", "sd"),
    ],
)
def test_a_lora_is_known_by_its_keys(key: str, width: int, naming: str, family: str | None, tmp_path: Path) -> None:
    found = detect(write(tmp_path / "style.safetensors", **{key: (4, width)}))
    assert (found.kind, found.naming, found.family) == ("lora", naming, family)
    assert found.context_width == (width if "attn2" in key else 0)


def test_a_lora_is_not_described_as_a_checkpoint(tmp_path: Path) -> None:
    file = write(tmp_path / "style.safetensors", **{f"lora_unet_{_KOHYA_LAYER}/lora_down/weight": (4, 768)})
    refused(file, r"style.safetensors is a LoRA, no checkpoint")


@pytest.mark.parametrize(("end", "kind"), [("hada_w1_a", "LoHa"), ("lokr_w1", "LoKr"), ("dora_scale", "DoRA")])
def test_relatives_of_loras_are_refused(end: str, kind: str, tmp_path: Path) -> None:
    refused(write(tmp_path / "style.safetensors", **{f"lora_unet_{_KOHYA_LAYER}/{end}": (4, 4)}), f"is a {kind}")
