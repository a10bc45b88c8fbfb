"""Adding checkpoints and LoRAs to a folder: whole and known by their hashes, or not at all."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from t2i.api import CheckpointError
from t2i.checkpoints import available, describe, load
from t2i.checkpoints.add import add
from t2i.checkpoints.files import read_manifest, verify
from t2i.checkpoints.hub import wanted_files
from tests.t2i.checkpoints import small_hub

Saved = Callable[[str], Path]
Single = Callable[[str], tuple[Path, Path]]


def everything_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.fixture
def lora(tmp_path: Path) -> Path:
    file = tmp_path / "style.safetensors"
    save_file({"unet.mid_block.attentions.0.proj_in.lora_A.weight": torch.zeros(2, 4)}, file)
    return file


def test_a_folder_is_copied_with_a_manifest_of_its_hashes(saved: Saved, tmp_path: Path) -> None:
    added = add(saved("sd"), tmp_path / "checkpoints", "mine")
    assert available(tmp_path / "checkpoints")["mine"] == added == tmp_path / "checkpoints" / "mine"
    manifest = read_manifest(added)
    assert manifest is not None
    assert (manifest.name, manifest.source) == ("mine", "sd")
    assert manifest.files.keys() == {name for name in everything_in(added) if (added / name).is_file()} - {"t2i.json"}
    unet = "unet/diffusion_pytorch_model.safetensors"
    assert manifest.files[unet] == hashlib.sha256((saved("sd") / unet).read_bytes()).hexdigest()
    assert verify(added) == []
    assert describe(added).name == "mine"
    assert load("mine", "cpu", checkpoints_dir=tmp_path / "checkpoints").info.name == "mine"


def test_only_what_is_needed_is_copied(copy_of: Callable[[str], Path], tmp_path: Path) -> None:
    folder = copy_of("sd")
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    shutil.copy(weights, weights.with_suffix(".fp16.safetensors"))
    weights.with_suffix(".bin").write_bytes(b"a pickle")
    (folder / "preview.png").write_bytes(b"a picture")
    (folder / "README.md").write_text("---\nlicense: openrail++\n---\nA model.\n")
    added = add(folder, tmp_path / "checkpoints")
    assert everything_in(added / "unet") == ["config.json", "diffusion_pytorch_model.safetensors"]
    assert not (added / "preview.png").exists()
    assert describe(added).licence == "openrail++"


def test_a_single_file_keeps_its_manifest_beside_it(single: Single, tmp_path: Path) -> None:
    added = add(single("sd21")[0], tmp_path, prediction_type="epsilon")
    assert everything_in(tmp_path) == ["sd21.safetensors", "sd21.t2i.json"]
    assert verify(added) == []
    assert describe(added).sizes == (512,)
    assert json.loads((tmp_path / "sd21.t2i.json").read_text())["defaults"] == {"prediction_type": "epsilon"}


def test_a_lora_goes_to_the_folder_of_loras(lora: Path, tmp_path: Path) -> None:
    added = add(lora, tmp_path / "checkpoints")
    assert added == tmp_path / "checkpoints" / "loras" / "style.safetensors"
    assert set(available(tmp_path / "checkpoints")) == {"embedded"}


def test_the_embedded_checkpoint_can_be_added_elsewhere(tmp_path: Path) -> None:
    added = add(available()["embedded"], tmp_path, "copy")
    assert verify(added) == []
    assert describe(added).sha256 == describe(available()["embedded"]).sha256


def test_what_lies_in_the_folder_already_gets_a_manifest_where_it_is(
    single: Single, copy_of: Callable[[str], Path], tmp_path: Path
) -> None:
    shutil.copy(single("sd21")[0], tmp_path / "found.safetensors")
    copy_of("sd").rename(tmp_path / "v1.5")
    before = everything_in(tmp_path)
    assert add("found.safetensors", tmp_path) == tmp_path / "found.safetensors"
    assert add("v1.5", tmp_path) == tmp_path / "v1.5"
    assert set(everything_in(tmp_path)) - set(before) == {"found.t2i.json", "v1.5/t2i.json"}
    for path in (tmp_path / "found.safetensors", tmp_path / "v1.5"):
        manifest = read_manifest(path)
        assert manifest is not None and manifest.files and manifest.name == path.name.removesuffix(".safetensors")
        assert verify(path) == []


def test_whoever_adds_hears_of_every_byte_once_a_stage(saved: Saved, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    add(saved("sd"), tmp_path, "mine", tell=lambda *word: told.append(word))
    size = sum(
        file.stat().st_size for file in (tmp_path / "mine").rglob("*") if file.name != "t2i.json" and file.is_file()
    )
    assert list(dict.fromkeys(stage for stage, _, _ in told)) == ["checking", "copying", "hashing"]
    for stage in ("copying", "hashing"):
        assert [(done, total) for name, done, total in told if name == stage][-1] == (size, size)


def test_a_name_that_is_taken_is_refused(saved: Saved, single: Single, tmp_path: Path) -> None:
    add(saved("sd"), tmp_path, "mine")
    before = everything_in(tmp_path)
    with pytest.raises(CheckpointError, match="has a checkpoint mine already"):
        add(single("sd15")[0], tmp_path, "mine")
    assert everything_in(tmp_path) == before


@pytest.mark.parametrize("name", ["embedded", "loras", "../mine", "a/b", ".hidden", "", "x" * 101])
def test_a_name_that_cannot_be_is_refused(name: str, lora: Path, tmp_path: Path) -> None:
    if not name:
        lora = lora.rename(lora.with_name("ä.safetensors"))
    with pytest.raises(CheckpointError, match="cannot be a name"):
        add(lora, tmp_path / "checkpoints", name)
    assert not (tmp_path / "checkpoints").exists()


def test_a_prediction_that_no_network_makes_is_refused(single: Single, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="No network predicts 'score'; choose epsilon or v_prediction"):
        add(single("sd15")[0], tmp_path / "checkpoints", prediction_type="score")
    assert not (tmp_path / "checkpoints").exists()


def test_a_damaged_checkpoint_is_not_added(copy_of: Callable[[str], Path], tmp_path: Path) -> None:
    folder = copy_of("sd")
    weights = folder / "vae" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"vae/diffusion_pytorch_model.safetensors is truncated"):
        add(folder, tmp_path / "checkpoints")
    assert not (tmp_path / "checkpoints").exists()


def test_what_does_not_fit_on_the_disk_is_not_added(single: Single, tmp_path: Path) -> None:
    """A file may be larger than any disk where none of it is written."""
    file = shutil.copy(single("sd15")[0], tmp_path / "huge.safetensors")
    content = file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    end = max(entry["data_offsets"][1] for entry in header.values())
    header["model_ema.huge"] = {"dtype": "U8", "shape": [2**42], "data_offsets": [end, end + 2**42]}
    text = json.dumps(header).encode()
    with file.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        stream.truncate(8 + len(text) + end + 2**42)
    with pytest.raises(CheckpointError, match=r"4398\.\d GB are needed in .*checkpoints"):
        add(file, tmp_path / "checkpoints")
    assert not (tmp_path / "checkpoints").exists()


# --- the hub --------------------------------------------------------------------------------------------------------


@pytest.fixture
def hub(saved: Saved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A hub that has org/tiny, with an empty cache: what it was asked for."""
    with small_hub.serve("org/tiny", saved("sd")) as (address, asked):
        monkeypatch.setattr(constants, "ENDPOINT", address)
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        yield asked


def test_a_model_of_the_hub_is_pinned_to_its_commit(hub: list[str], tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    added = add("org/tiny", tmp_path / "checkpoints", tell=lambda *word: told.append(word))
    assert told[0][0] == "downloading" and told[0][2] > 100_000
    manifest = read_manifest(added)
    assert manifest is not None
    assert (manifest.name, manifest.source) == ("tiny", f"org/tiny@{small_hub.COMMIT}")
    assert verify(added) == []


def test_a_model_of_the_hub_loads_and_is_in_the_cache_from_then_on(hub: list[str]) -> None:
    assert load("org/tiny", "cpu").info.family == "sd"
    assert hub
    hub.clear()
    load("org/tiny@main", "cpu")
    assert not hub


@pytest.mark.parametrize(
    ("hub_id", "message"),
    [
        ("org/other", "There is no folder org/other, and no public model of that name on the hub"),
        ("org/tiny@old", "The model org/tiny has no revision 'old'"),
    ],
)
def test_what_the_hub_does_not_have_is_told_in_one_sentence(
    hub_id: str, message: str, hub: list[str], tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=message):
        add(hub_id, tmp_path / "checkpoints")
    with pytest.raises(CheckpointError, match=message):
        load(hub_id, "cpu")


def test_a_hub_that_cannot_be_reached_is_told_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(
        CheckpointError, match="no complete model of that name in the hub's cache, and the hub cannot be"
    ):
        load("org/tiny", "cpu")


def test_of_a_repository_one_variant_of_each_part_is_downloaded() -> None:
    names = [
        "model_index.json",
        "README.md",
        ".gitattributes",
        "v1-5.safetensors",
        "picture.png",
        "unet/config.json",
        "unet/diffusion_pytorch_model.bin",
        "unet/diffusion_pytorch_model.safetensors",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "unet/diffusion_pytorch_model.non_ema.safetensors",
        "text_encoder/model.fp16.safetensors",
        "text_encoder/pytorch_model.bin.index.json",
        "tokenizer/merges.txt",
        "tokenizer/spiece.model",
    ]
    assert sorted(wanted_files(dict.fromkeys(names, 1), "org/tiny")) == [
        "README.md",
        "model_index.json",
        "text_encoder/model.fp16.safetensors",
        "tokenizer/merges.txt",
        "tokenizer/spiece.model",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
    ]


def test_of_a_repository_with_one_file_that_is_downloaded() -> None:
    assert wanted_files({"style.safetensors": 1, "README.md": 1, "a.png": 1}, "org/x") == [
        "style.safetensors",
        "README.md",
    ]
    with pytest.raises(CheckpointError, match=r"org/x has no model_index.json and 2 safetensors files"):
        wanted_files({"a.safetensors": 1, "b.safetensors": 1}, "org/x")
