"""Conversion: the same weights in another layout or precision, and a folder that is there whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline
from safetensors.torch import load_file, save_file

from t2i.api import CheckpointError
from t2i.checkpoints import available, describe, load
from t2i.checkpoints.convert import convert
from t2i.checkpoints.detect import detect
from t2i.checkpoints.files import read_manifest, verify
from t2i.checkpoints.folder import load_folder

Saved = Callable[[str], Path]
Single = Callable[[str], tuple[Path, Path]]


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    parts = load_folder(detect(folder), torch.float32, torch.float32)
    return {
        f"{part}.{name}": weight
        for part, module in parts.items()
        if not part.startswith("tokenizer")
        for name, weight in module.state_dict().items()
    }


@pytest.mark.parametrize("name", ["sd15", "sd15-inpaint", "sd21", "sdxl"])
def test_a_single_file_becomes_the_folder_that_diffusers_would_save(name: str, single: Single, tmp_path: Path) -> None:
    file, folder = single(name)
    out = convert(file, tmp_path / "out", configs=folder)
    ours, theirs = weights_of(out), weights_of(folder)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], weight) for key, weight in theirs.items())
    assert verify(out) == []
    manifest = read_manifest(out)
    assert manifest is not None
    assert (manifest.name, manifest.source) == ("out", f"{name}.safetensors")
    assert load(out, "cpu").info.name == "out"


def test_diffusers_reads_what_was_converted(single: Single, tmp_path: Path) -> None:
    file, folder = single("sd15-inpaint")
    pipeline = DiffusionPipeline.from_pretrained(convert(file, tmp_path / "out", configs=folder), local_files_only=True)
    assert type(pipeline).__name__ == "StableDiffusionInpaintPipeline"
    assert pipeline.unet.config.in_channels == 9
    assert pipeline.scheduler.config.beta_schedule == "scaled_linear"


@pytest.mark.parametrize(("dtype", "name"), [("float16", "F16"), ("bfloat16", "BF16")])
def test_a_folder_is_written_in_another_precision(dtype: str, name: str, saved: Saved, tmp_path: Path) -> None:
    out = convert(saved("sdxl"), tmp_path / "out", dtype)
    before, after = weights_of(saved("sdxl")), weights_of(out)
    assert all(torch.equal(after[key], weight.to(getattr(torch, dtype)).float()) for key, weight in before.items())
    for file in out.rglob("*.safetensors"):
        assert {weight.dtype for weight in load_file(file).values()} == {getattr(torch, dtype)}
    assert json.loads((out / "text_encoder" / "config.json").read_text())["dtype"] == dtype
    assert verify(out) == []
    assert describe(out).parameters == describe(saved("sdxl")).parameters


def test_a_single_file_is_written_in_another_precision(single: Single, tmp_path: Path) -> None:
    file, folder = single("sd15")
    out = convert(file, tmp_path / "out", "float16", configs=folder)
    expected = {key: weight.half().float() for key, weight in weights_of(folder).items()}
    assert all(torch.equal(weight, expected[key]) for key, weight in weights_of(out).items())


def test_without_a_precision_a_folder_keeps_its_own(saved: Saved, tmp_path: Path) -> None:
    out = convert(saved("sd"), tmp_path / "out")
    unet = "unet/diffusion_pytorch_model.safetensors"
    assert (out / unet).read_bytes() == (saved("sd") / unet).read_bytes()


def test_a_folder_that_is_there_is_left_alone(saved: Saved, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(CheckpointError, match="out is there already; choose another name or remove it"):
        convert(saved("sd"), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_nothing_is_left_of_a_conversion_that_fails(copy_of: Callable[[str], Path], tmp_path: Path) -> None:
    folder = copy_of("sd")
    vae = folder / "vae" / "diffusion_pytorch_model.safetensors"  # the last to be written
    vae.write_bytes(vae.read_bytes().replace(b'"shape":[8]', b'"shape":[9]', 1))
    (tmp_path / "outs").mkdir()
    with pytest.raises(CheckpointError, match=r"The weights in sd/vae/.* cannot be read"):
        convert(folder, tmp_path / "outs" / "out", "float16")
    assert list((tmp_path / "outs").iterdir()) == []


def test_what_a_killed_conversion_left_does_not_matter(saved: Saved, tmp_path: Path) -> None:
    (tmp_path / ".out.partial").mkdir()
    (tmp_path / ".out.partial" / "rest.safetensors").write_bytes(b"half a file")
    out = convert(saved("sd"), tmp_path / "out")
    assert verify(out) == []
    assert not (out / "rest.safetensors").exists()


def test_a_single_file_that_lacks_weights_is_not_converted(single: Single, tmp_path: Path) -> None:
    file, folder = single("sd15")
    kept = {key: weight for key, weight in load_file(file).items() if "decoder.conv_out" not in key}
    save_file(kept, tmp_path / "broken.safetensors")
    with pytest.raises(CheckpointError, match=r"The vae of broken.safetensors is incomplete: it lacks 2 weights"):
        convert(tmp_path / "broken.safetensors", tmp_path / "out", configs=folder)
    assert not (tmp_path / "out").exists()


def test_what_has_no_other_layout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be converted"):
        convert(available()["embedded"], tmp_path / "out")
