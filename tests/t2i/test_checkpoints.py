"""Checkpoints on disk: what is refused, and that saving loses nothing that is seen."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from t2i.api import CheckpointError, EngineError
from t2i.checkpoints import available, describe, load
from t2i.families.text import TextEncoder, dequantize, quantize


@pytest.fixture
def copy(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "copy"))


def test_a_truncated_file_is_refused(copy: Path) -> None:
    weights = copy / "base" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"copy is damaged: base/diffusion_pytorch_model.safetensors"):
        load(copy)


def test_a_missing_file_is_refused(copy: Path) -> None:
    (copy / "text_encoder" / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"incomplete: text_encoder/tokenizer.json is missing"):
        load(copy)


def test_another_family_is_refused(copy: Path) -> None:
    (copy / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    with pytest.raises(CheckpointError, match=r"incomplete: its model_index\.json names no unet"):
        load(copy)


def test_an_unreadable_index_is_refused(copy: Path) -> None:
    (copy / "model_index.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"no readable model_index.json"):
        describe(copy)


def test_folders_with_an_index_are_found_by_name(checkpoints_dir: Path) -> None:
    assert set(available(checkpoints_dir)) == {"embedded", "tiny"}
    assert describe(checkpoints_dir / "tiny").name == "tiny"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_device_that_is_not_there_is_named(tiny_checkpoint: Path) -> None:
    with pytest.raises(EngineError, match="no cuda device"):
        load(tiny_checkpoint, device="cuda")


def test_int8_keeps_a_matrix_to_half_a_step_of_each_row() -> None:
    weight = torch.randn(16, 32, generator=torch.Generator().manual_seed(0))
    restored = dequantize(quantize({"w": weight}))["w"]
    step = weight.abs().amax(1, keepdim=True) / 127
    assert ((restored - weight).abs() <= step / 2 + 1e-6).all()


def test_padding_changes_no_text_state(tiny_checkpoint: Path) -> None:
    encoder = TextEncoder(tiny_checkpoint / "text_encoder", torch.device("cpu"))
    both = encoder.encode(["cat", "a much longer one"])
    alone = encoder.encode(["cat"])
    torch.testing.assert_close(both.pooled[0], alone.pooled[0])
    torch.testing.assert_close(both.tokens[0][both.mask[0]], alone.tokens[0][alone.mask[0]])
