"""What a request may ask beyond a prompt: LoRAs, long and weighted prompts, precisions and devices."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import save_file

from t2i import checkpoints
from t2i.api import GenerationRequest, InvalidRequest, Lora
from t2i.checkpoints import tiny_latent as tiny
from t2i.engine import runner
from tests.t2i.families import pipelines
from tests.t2i.oracle import PROMPT, SEED, drawn, error

pytestmark = pytest.mark.usefixtures("one_thread")

LATENT_FAMILIES = ("sd", "sdxl", "sd3", "flux")


def ask(**fields) -> GenerationRequest:
    return GenerationRequest(**{"prompt": PROMPT, "seed": SEED, "steps": 3} | fields)


@pytest.mark.parametrize("name", LATENT_FAMILIES)
def test_a_respacing_string_sets_the_steps(loaded, name: str) -> None:
    model = loaded(name)
    assert runner.admit(model, ask(respacing="3,2", sampler=None), "respaced").steps == 5
    whole, same = drawn(model, ask(respacing="ddim5")), drawn(model, ask(respacing="ddim5", steps=9))
    assert torch.equal(whole, same)
    assert error(drawn(model, ask(respacing="2,3")), drawn(model, ask(respacing="3,2"))) > 1e-3


@pytest.mark.parametrize("name", LATENT_FAMILIES)
def test_weights_and_a_long_prompt_change_the_picture(loaded, name: str) -> None:
    model = loaded(name)
    plain = drawn(model, ask(guidance_scale=4.0))
    assert error(drawn(model, ask(prompt="a (red:1.6) apple, on a table", guidance_scale=4.0)), plain) > 1e-4
    endings = [" ".join(["and more of it"] * 40) + end for end in (" in spring", " at night")]
    spring, night = (drawn(model, ask(prompt=PROMPT + ending, guidance_scale=4.0)) for ending in endings)
    assert error(night, spring) > 1e-5  # what lies beyond the first window is read


@pytest.mark.parametrize("name", ["sd", "sdxl", "sd3"])
def test_a_negative_prompt_longer_than_the_prompt_is_read(loaded, name: str) -> None:
    model = loaded(name)
    negatives = [" ".join(["no blur"] * 40) + end for end in (" please", " at all")]
    one, other = (drawn(model, ask(negative_prompt=negative, guidance_scale=4.0)) for negative in negatives)
    assert error(one, other) > 1e-5


def test_flux_refuses_a_negative_prompt(loaded) -> None:
    with pytest.raises(InvalidRequest, match="takes no negative prompt"):
        runner.admit(loaded("flux"), ask(negative_prompt="blur"), "negative")


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"width": 60}, "sides of a multiple of 8 pixels, not 60"),
        ({"loras": (Lora("nothing"),)}, "no LoRA named 'nothing'"),
        ({"respacing": "ddim60"}, "exactly 60 steps"),
        ({"image": b"junk"}, "image is not a PNG, JPEG"),
    ],
)
def test_what_a_latent_family_cannot_draw_is_refused(loaded, fields, sentence: str) -> None:
    with pytest.raises(InvalidRequest, match=sentence):
        runner.admit(loaded("sd"), ask(**fields), "refused")


@pytest.fixture(scope="module")
def styled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of checkpoints with a Stable Diffusion and two LoRAs for it."""
    folder = tmp_path_factory.mktemp("styled")
    tiny.save(tiny.stable_diffusion(), folder / "sd")
    (folder / "loras").mkdir()
    for seed, name in enumerate(("ink", "oil")):
        torch.manual_seed(seed)
        pipeline = tiny.stable_diffusion()
        pipeline.unet.add_adapter(
            LoraConfig(r=4, lora_alpha=8, init_lora_weights=False, target_modules=["to_q", "to_v", "conv1"])
        )
        weights = get_peft_model_state_dict(pipeline.unet)
        save_file({f"unet.{key}": value for key, value in weights.items()}, folder / "loras" / f"{name}.safetensors")
    return folder


def test_every_request_has_its_own_loras_whoever_is_drawn_beside_it(styled: Path) -> None:
    model = checkpoints.load("sd", device="cpu", dtype="float32", checkpoints_dir=styled)
    sets = [(), (Lora("ink", 0.8),), (Lora("ink", 0.8), Lora("oil", -0.5)), (Lora("oil"),), ()]
    requests = [ask(loras=loras, guidance_scale=4.0) for loras in sets]
    alone = [drawn(model, request) for request in requests]
    assert error(alone[1], alone[0]) > 1e-3
    assert error(alone[2], alone[1]) > 1e-3
    assert torch.equal(alone[4], alone[0])
    sequences = [runner.admit(model, request, "styled") for request in requests]
    while not sequences[0].finished:
        for sequence in sequences:
            runner.step(model, [sequence])
    for sequence, expected in zip(sequences, alone, strict=True):
        assert torch.equal(sequence.latents, expected)
    assert len({sequence.group for sequence in (runner.admit(model, each, "group") for each in requests)}) == 4


@pytest.mark.parametrize("name", LATENT_FAMILIES)
def test_half_precision_draws_nearly_the_same(loaded, saved, name: str) -> None:
    exact = drawn(loaded(name), ask(guidance_scale=2.0))
    half = checkpoints.load(saved(name), device="cpu", dtype="bfloat16")
    assert next(half.denoiser.parameters()).dtype == torch.bfloat16
    rough = drawn(half, ask(guidance_scale=2.0))
    assert rough.dtype == torch.float32
    assert 0 < error(rough, exact) < 0.05
    (picture,) = half.decode(rough)
    assert picture.size == (64, 64)


def test_a_half_precision_model_can_be_precise_for_a_while(loaded, saved) -> None:
    half = checkpoints.load(saved("sd"), device="cpu", dtype="bfloat16")
    before = drawn(half, ask(guidance_scale=2.0))
    with half.precise():
        careful = drawn(half, ask(guidance_scale=2.0))
    exact = drawn(loaded("sd"), ask(guidance_scale=2.0))
    # The weights were rounded when they were loaded; what was computed with them was not.
    assert error(careful, exact) < error(before, exact)
    assert torch.equal(drawn(half, ask(guidance_scale=2.0)), before)


def test_a_whole_pipeline_draws_in_half_precision(tmp_path: Path) -> None:
    folder = tiny.save(pipelines.pixart(), tmp_path / "pixart")
    model = checkpoints.load(folder, device="cpu", dtype="bfloat16")
    job = runner.admit(model, GenerationRequest(prompt=PROMPT, seed=SEED, steps=2, width=64, height=64), "half")
    while not job.finished:
        runner.step(model, [job])
    (image,) = runner.results(model, job)
    assert (image.width, image.height) == (64, 64)
    assert model.fresh().transformer.dtype == torch.bfloat16


def test_parts_that_rest_in_main_memory_draw_the_same(loaded, saved) -> None:
    resting = checkpoints.load(saved("sdxl"), device="cpu", dtype="float32", offload=True)
    assert torch.equal(drawn(resting, ask()), drawn(loaded("sdxl"), ask()))
