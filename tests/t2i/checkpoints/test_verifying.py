"""Manifests: everything that changed since a checkpoint was added is found, and what it is called tells it apart."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from t2i.api import CheckpointError
from t2i.checkpoints import available, describe
from t2i.checkpoints.add import add
from t2i.checkpoints.files import identity, verify

Saved = Callable[[str], Path]
Single = Callable[[str], tuple[Path, Path]]


@pytest.fixture
def added(saved: Saved, tmp_path: Path) -> Path:
    return add(saved("sd"), tmp_path / "checkpoints")


def flip_last_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def test_a_changed_weight_is_noticed(added: Path) -> None:
    flip_last_byte(added / "unet" / "diffusion_pytorch_model.safetensors")
    assert verify(added) == ["sd is damaged: unet/diffusion_pytorch_model.safetensors is not the file that was saved."]


def test_every_problem_is_told(added: Path) -> None:
    (added / "tokenizer" / "tokenizer.json").unlink()
    vae = added / "vae" / "diffusion_pytorch_model.safetensors"
    vae.write_bytes(vae.read_bytes()[:-4])
    shutil.copy(added / "unet" / "diffusion_pytorch_model.safetensors", added / "unet" / "other.safetensors")
    problems = verify(added)
    assert len(problems) == 4
    assert any("vae/diffusion_pytorch_model.safetensors is truncated" in problem for problem in problems)
    assert any("incomplete: tokenizer/tokenizer.json is missing" in problem for problem in problems)
    assert any("damaged: vae/" in problem for problem in problems)
    assert any("unet/other.safetensors, which its manifest does not know" in problem for problem in problems)


def test_a_damaged_manifest_is_a_problem(added: Path) -> None:
    (added / "t2i.json").write_text('{"name": 3}')
    (problem,) = verify(added)
    assert problem.startswith("The manifest t2i.json of sd cannot be read")
    with pytest.raises(CheckpointError, match=r"The manifest t2i.json of sd cannot be read"):
        describe(added)


@pytest.mark.parametrize(
    "defaults", [{"steps": 0}, {"sampler": "best"}, {"guidance_scale": -1}, {"size": 1}, {"prediction_type": "score"}]
)
def test_defaults_that_cannot_be_are_a_problem(defaults: dict[str, object], added: Path) -> None:
    manifest = json.loads((added / "t2i.json").read_text())
    (added / "t2i.json").write_text(json.dumps(manifest | {"defaults": defaults}))
    with pytest.raises(CheckpointError, match=rf"The manifest t2i.json of sd cannot be read: .*{next(iter(defaults))}"):
        describe(added)


def test_a_changed_single_file_is_noticed(single: Single, tmp_path: Path) -> None:
    file = add(single("sd15")[0], tmp_path)
    flip_last_byte(file)
    assert verify(file) == ["sd15.safetensors is damaged: sd15.safetensors is not the file that was saved."]


def test_a_changed_cascade_is_noticed(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(available()["embedded"], tmp_path / "copy"))
    assert verify(folder) == []
    flip_last_byte(folder / "upsampler" / "diffusion_pytorch_model.safetensors")
    assert verify(folder) == [
        "copy is damaged: upsampler/diffusion_pytorch_model.safetensors is not the file that was saved."
    ]


def test_without_a_manifest_the_files_lengths_are_compared_with_their_headers(copy_of: Callable[[str], Path]) -> None:
    folder = copy_of("sd")
    assert verify(folder) == []
    unet = folder / "unet" / "diffusion_pytorch_model.safetensors"
    unet.write_bytes(unet.read_bytes()[:-1])
    (problem,) = verify(folder)
    assert problem.startswith("unet/diffusion_pytorch_model.safetensors is truncated")


def test_an_identity_belongs_to_the_content_not_to_the_name(saved: Saved, copy_of: Callable[[str], Path]) -> None:
    folder = copy_of("sd")
    assert identity(folder) == identity(saved("sd"))
    flip_last_byte(folder / "vae" / "diffusion_pytorch_model.safetensors")
    assert identity(folder) != identity(saved("sd"))


def test_an_identity_follows_the_hashes_of_the_manifest(saved: Saved, tmp_path: Path) -> None:
    ours, other = (add(saved("sd"), tmp_path, name) for name in ("one", "two"))
    assert describe(ours).sha256 == describe(other).sha256
    manifest = json.loads((other / "t2i.json").read_text())
    manifest["files"]["unet/config.json"] = "0" * 64
    (other / "t2i.json").write_text(json.dumps(manifest))
    assert describe(ours).sha256 != describe(other).sha256


def test_defaults_of_the_manifest_come_before_all_others(added: Path) -> None:
    manifest = json.loads((added / "t2i.json").read_text())
    defaults = {"steps": 6, "sampler": "euler", "guidance_scale": 0.0, "size": 512}
    manifest |= {"description": "Mine.", "licence": "CC0", "defaults": defaults}
    (added / "t2i.json").write_text(json.dumps(manifest))
    info = describe(added)
    assert (info.description, info.licence) == ("Mine.", "CC0")
    assert (info.steps, info.sampler, info.guidance_scale) == (6, "euler", 0.0)
    assert (info.sizes, info.default_size) == ((512,), 512)
