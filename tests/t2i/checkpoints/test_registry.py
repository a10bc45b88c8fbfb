"""Names, descriptions and loading: every family, whole and in the precision that is wanted, or one sentence."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from t2i.api import CheckpointError, EngineError
from t2i.checkpoints import available, describe, load, resolve
from t2i.checkpoints import tiny_latent as tiny
from t2i.checkpoints.detect import detect
from t2i.checkpoints.folder import load_folder
from t2i.checkpoints.registry import pick_device, pick_dtype
from t2i.families.cpu import computes_in_bfloat16

Saved = Callable[[str], Path]
Single = Callable[[str], tuple[Path, Path]]
WEIGHTS = "diffusion_pytorch_model.safetensors"


def rewrite(file: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    weights = load_file(file)
    change(weights)
    save_file(weights, file, metadata={"format": "pt"})


def test_folders_and_single_files_are_listed_and_loras_are_not(single: Single, saved: Saved, tmp_path: Path) -> None:
    (tmp_path / "folder").symlink_to(saved("sd"))
    (tmp_path / "file.safetensors").symlink_to(single("sd15")[0])
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    (tmp_path / "other.txt").write_text("no checkpoint")
    (tmp_path / ".partial").mkdir()
    save_file({"lora_unet_x.lora_down.weight": torch.zeros(2, 2)}, tmp_path / "style.safetensors")
    names = available(tmp_path)
    assert list(names) == ["embedded", "folder", "broken", "file"]
    assert resolve("file", tmp_path) == tmp_path / "file.safetensors"
    with pytest.raises(CheckpointError, match=r"broken.safetensors is not a safetensors file"):
        describe(names["broken"])


def test_a_name_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="There is no checkpoint 'mine'; there is embedded"):
        load("mine", "cpu", checkpoints_dir=tmp_path)


def test_a_path_that_is_no_checkpoint_says_why(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"is no checkpoint: it has no model_index.json"):
        load(tmp_path, "cpu")
    (tmp_path / "model.ckpt").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"model.ckpt is a pickle"):
        load(tmp_path / "model.ckpt", "cpu")


@pytest.mark.parametrize(
    ("name", "features"),
    [
        ("sd", {"negative_prompt", "image", "mask", "tile", "loras", "any_size"}),
        ("sdxl", {"negative_prompt", "image", "mask", "tile", "loras", "any_size"}),
        ("sd3", {"negative_prompt", "image", "mask", "loras", "any_size"}),
        ("flux", {"image", "mask", "loras", "any_size"}),
    ],
)
def test_a_description_counts_parameters_and_lists_features(name: str, features: set[str], saved: Saved) -> None:
    info = describe(saved(name))
    parts = load_folder(detect(saved(name)), torch.float32, torch.float32)
    networks = [module for part, module in parts.items() if not part.startswith("tokenizer")]
    # Tied weights are saved once.
    weights = {weight.data_ptr(): weight for module in networks for weight in module.state_dict().values()}
    assert info.parameters == sum(weight.numel() for weight in weights.values())
    assert set(info.features) == features
    assert (info.sizes, info.default_size) == ((64,), 64)
    assert len(info.sha256) == 64


def test_saving_and_loading_loses_no_weight(tmp_path: Path) -> None:
    pipeline = tiny.sdxl()
    parts = load_folder(detect(tiny.save(pipeline, tmp_path / "sdxl")), torch.float32, torch.float32)
    for name in ("unet", "vae", "text_encoder", "text_encoder_2"):
        theirs = getattr(pipeline, name).state_dict()
        assert parts[name].state_dict().keys() == theirs.keys()
        assert all(torch.equal(weight, theirs[key]) for key, weight in parts[name].state_dict().items())
        assert not parts[name].training


def test_weights_come_in_the_wanted_precision_and_the_autoencoder_in_its_own(saved: Saved) -> None:
    parts = load_folder(detect(saved("sdxl")), torch.bfloat16, torch.float32)
    dtypes = {name: {weight.dtype for weight in part.parameters()} for name, part in parts.items() if "tok" not in name}
    assert dtypes.pop("vae") == {torch.float32}
    assert set().union(*dtypes.values()) == {torch.bfloat16}


def test_an_autoencoder_that_overflows_in_half_precision_stays_in_full(saved: Saved) -> None:
    placement = load(saved("sdxl"), "cpu", dtype="bfloat16", offload=True).placement
    assert (placement.dtype, placement.vae_dtype, placement.offload) == (torch.bfloat16, torch.float32, True)


def test_weights_of_the_fp16_variant_are_taken_where_there_are_no_others(copy_of: Callable[[str], Path]) -> None:
    folder = copy_of("sd")
    for file in folder.rglob("*.safetensors"):
        file.rename(file.with_suffix(".fp16.safetensors"))
    parts = load_folder(detect(folder), torch.float32, torch.float32)
    assert sum(weight.numel() for weight in parts["unet"].parameters()) > 0


def test_text_encoders_of_older_releases_load_too(copy_of: Callable[[str], Path], saved: Saved) -> None:
    folder = copy_of("sd")
    file = folder / "text_encoder" / "model.safetensors"
    save_file(
        {f"text_model.{name.removeprefix('text_model.')}": weight for name, weight in load_file(file).items()},
        file,
        metadata={"format": "pt"},
    )
    ours, theirs = (
        load_folder(detect(path), torch.float32, torch.float32)["text_encoder"] for path in (folder, saved("sd"))
    )
    assert all(torch.equal(weight, theirs.state_dict()[name]) for name, weight in ours.state_dict().items())


def test_a_load_that_fails_in_half_precision_leaves_pytorch_as_it_was(copy_of: Callable[[str], Path]) -> None:
    folder = copy_of("sd")
    config = folder / "unet" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"norm_num_groups": 7}))
    with pytest.raises(CheckpointError):
        load(folder, device="cpu", dtype="bfloat16")
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.parametrize(
    ("part", "file", "key"),
    [
        ("unet", WEIGHTS, "conv_in.bias"),
        ("vae", WEIGHTS, "quant_conv.bias"),
        ("text_encoder", "model.safetensors", None),
    ],
)
def test_a_missing_weight_is_named(part: str, file: str, key: str | None, copy_of: Callable[[str], Path]) -> None:
    folder = copy_of("sd")
    key = key or next(name for name in load_file(folder / part / file) if name.endswith("final_layer_norm.bias"))
    rewrite(folder / part / file, lambda weights: weights.pop(key))
    with pytest.raises(CheckpointError, match=f"sd/{part} is incomplete: it lacks a weight, such as {key}"):
        load(folder, "cpu")


@pytest.mark.parametrize(("part", "file"), [("unet", WEIGHTS), ("vae", WEIGHTS), ("text_encoder", "model.safetensors")])
def test_weights_of_another_shape_are_refused(part: str, file: str, copy_of: Callable[[str], Path]) -> None:
    folder = copy_of("sd")
    rewrite(folder / part / file, lambda weights: weights.update({next(iter(weights)): torch.zeros(3, 3)}))
    with pytest.raises(CheckpointError, match=f"The {part} of sd cannot be loaded: its weights do not fit"):
        load(folder, "cpu")


@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_truncated_weights_are_refused(part: str, copy_of: Callable[[str], Path]) -> None:
    folder = copy_of("sd")
    (file,) = (folder / part).glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(CheckpointError, match=f"{file.name} is truncated"):
        load(folder, "cpu")


@pytest.mark.parametrize(
    ("config", "change", "message"),
    [
        ("unet", {"transformer_layers_per_block": "x"}, "The unet of sd cannot be loaded: its weights do not fit"),
        (
            "text_encoder",
            {"num_attention_heads": "x"},
            "The text_encoder of sd cannot be loaded: its weights do not fit",
        ),
        ("vae", {"scaling_factor": "x"}, "The parts of sd do not work together"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(
    config: str, change: dict[str, str], message: str, copy_of: Callable[[str], Path]
) -> None:
    folder = copy_of("sd")
    file = folder / config / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(CheckpointError, match=message):
        load(folder, "cpu")


def test_sd3_is_loaded_without_its_largest_text_encoder(copy_of: Callable[[str], Path], saved: Saved) -> None:
    folder = copy_of("sd3")
    index = json.loads((folder / "model_index.json").read_text())
    absent = {"text_encoder_3": [None, None], "tokenizer_3": [None, None]}
    (folder / "model_index.json").write_text(json.dumps(index | absent))
    assert load(folder, "cpu").info.parameters < describe(saved("sd3")).parameters


def test_an_unreadable_tokenizer_is_refused(copy_of: Callable[[str], Path]) -> None:
    folder = copy_of("sd")
    for file in (folder / "tokenizer").iterdir():
        file.write_text("{")
    with pytest.raises(CheckpointError, match="The tokenizer of sd cannot be read"):
        load(folder, "cpu")


def test_a_lora_is_not_loaded_as_a_checkpoint(tmp_path: Path) -> None:
    save_file({"lora_unet_x.lora_down.weight": torch.zeros(2, 2)}, tmp_path / "style.safetensors")
    with pytest.raises(CheckpointError, match=r"style.safetensors is a LoRA, no checkpoint"):
        load(tmp_path / "style.safetensors", "cpu")


def test_precisions_are_known_by_their_names() -> None:
    cpu = torch.device("cpu")
    assert pick_dtype("auto", cpu) == (torch.bfloat16 if computes_in_bfloat16() else torch.float32)
    assert pick_dtype("auto", torch.device("mps")) == torch.float16
    assert pick_dtype("fp16", cpu) == pick_dtype("float16", cpu) == torch.float16
    assert pick_dtype("bf16", cpu) == pick_dtype("bfloat16", cpu) == torch.bfloat16
    with pytest.raises(EngineError, match="no precision 'int4'; choose auto, float32, float16 or bfloat16"):
        pick_dtype("int4", cpu)


@pytest.mark.parametrize("name", ["tpu", "cpu:x"])
def test_devices_that_no_one_knows_are_refused(name: str) -> None:
    with pytest.raises(EngineError, match=f"There is no device '{name}'"):
        pick_device(name)


def test_listing_checkpoints_imports_no_torch() -> None:
    program = "import sys; from t2i.checkpoints import available, cli; available(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout == "False\n"
