"""Which pipelines are taken for what they are, and which are refused before anything of them is kept."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from diffusers import (
    DDPMPipeline,
    DDPMScheduler,
    IFPipeline,
    QwenImagePipeline,
    StableCascadeCombinedPipeline,
    StableDiffusionControlNetPipeline,
    StableDiffusionImg2ImgPipeline,
    UNet2DModel,
    WanPipeline,
)
from safetensors.torch import load_file, save_file

from t2i.api import CheckpointError, GenerationRequest, InvalidRequest
from t2i.checkpoints import tiny_latent as tiny
from t2i.families.parts import Placement
from t2i.families.pipeline import Call, WholePipeline, default_size, read_call
from tests.t2i.families.pipelines import BUILDERS, info_of, load

REQUEST = GenerationRequest(prompt="a cat", negative_prompt="a dog", guidance_scale=3.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    root = tmp_path_factory.mktemp("pipelines")
    return cache(lambda name: tiny.save(BUILDERS[name](), root / name))


@pytest.mark.parametrize("field", ["negative_prompt", "guidance_scale"])
def test_a_prompt_alone_is_all_that_some_pipelines_take(field: str, folder: Callable[[str], Path]) -> None:
    # Any that has all it needs, and neither of the two.
    defaults = {name: default for name, default in Call.of(IFPipeline).defaults.items() if name != field}
    with pytest.raises(InvalidRequest) as refused:
        Call(IFPipeline, defaults).arguments(
            GenerationRequest(prompt="a cat", **{field: getattr(REQUEST, field)}), info_of(folder("pixart"))
        )
    assert refused.value.field == field


def test_guidance_that_needs_a_negative_prompt_is_given_an_empty_one(folder: Callable[[str], Path]) -> None:
    call = Call.of(QwenImagePipeline)
    request = GenerationRequest(prompt="a cat", guidance_scale=3.0)
    arguments = call.arguments(request, info_of(folder("pixart")))
    assert (arguments["true_cfg_scale"], arguments["negative_prompt"]) == (3.0, " ")
    assert "guidance_scale" not in arguments


@pytest.mark.parametrize(
    ("pipeline_class", "steps", "guidance", "scale"),
    [
        (IFPipeline, 100, "guidance_scale", 7.0),
        (QwenImagePipeline, 50, "true_cfg_scale", 4.0),
        (StableCascadeCombinedPipeline, 12, "prior_guidance_scale", 4.0),
    ],
)
def test_defaults_are_those_of_the_pipeline(pipeline_class: type, steps: int, guidance: str, scale: float) -> None:
    call = Call.of(pipeline_class)
    assert (call.steps, call.guidance, call.guidance_scale) == (steps, guidance, scale)


@pytest.mark.parametrize(("name", "size"), [("pixart", 32 * 8), ("aura-flow", 1024), ("kandinsky", 512)])
def test_the_default_size_is_that_of_the_pipeline(name: str, size: int, folder: Callable[[str], Path]) -> None:
    assert default_size(folder(name), read_call(folder(name))) == size


@pytest.mark.parametrize(
    "pipeline_class",
    [DDPMPipeline, WanPipeline, StableDiffusionImg2ImgPipeline, StableDiffusionControlNetPipeline],
)
def test_pipelines_that_draw_from_something_else_are_refused(pipeline_class: type) -> None:
    with pytest.raises(CheckpointError, match=f"A {pipeline_class.__name__} does not draw pictures from text alone"):
        Call.of(pipeline_class)


def test_a_folder_with_another_kind_of_pipeline_is_refused(tmp_path: Path) -> None:
    network = UNet2DModel(
        sample_size=8,
        block_out_channels=(8, 8),
        norm_num_groups=4,
        down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
    )
    path = tiny.save(DDPMPipeline(unet=network, scheduler=DDPMScheduler()), tmp_path / "ddpm")
    with pytest.raises(CheckpointError, match="A DDPMPipeline does not draw"):
        read_call(path)


@pytest.fixture
def copy(folder: Callable[[str], Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder("pixart"), tmp_path / "copy"))


def rewrite_index(path: Path, **entries: object) -> None:
    index = path / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | entries))


@pytest.mark.parametrize(
    "entries",
    [{"_class_name": ["mine", "MyPipeline"]}, {"transformer": ["mine", "MyTransformer"]}],
    ids=["pipeline", "part"],
)
def test_code_that_comes_with_a_checkpoint_is_never_run(entries: dict[str, object], copy: Path) -> None:
    info = info_of(copy)
    rewrite_index(copy, **entries)
    for place in (copy, copy / "transformer"):
        (place / "mine.py").write_text("raise SystemExit('it ran')")
    with pytest.raises(CheckpointError, match=r"copy brings code of its own, which is never run\."):
        WholePipeline(copy, info, Placement.on(torch.device("cpu")))


def test_a_class_that_diffusers_does_not_know_is_named(copy: Path) -> None:
    rewrite_index(copy, _class_name="DreamPipeline")
    with pytest.raises(CheckpointError, match=r"copy is a DreamPipeline, which diffusers .* does not know"):
        read_call(copy)


def truncated(weights: Path) -> None:
    weights.write_bytes(weights.read_bytes()[:-100])


def pickled(weights: Path) -> None:
    torch.save(load_file(weights), weights.with_suffix(".bin"))
    weights.unlink()


def incomplete(weights: Path) -> None:
    tensors = load_file(weights)
    del tensors["proj_out.weight"]
    save_file(tensors, weights, metadata={"format": "pt"})


@pytest.mark.parametrize("damage", [truncated, pickled, incomplete])
def test_damaged_weights_are_refused(damage: Callable[[Path], None], copy: Path) -> None:
    damage(copy / "transformer" / "diffusion_pytorch_model.safetensors")
    with pytest.raises(CheckpointError, match=r"^copy "):
        load(copy)
