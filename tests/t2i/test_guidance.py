"""Guidance and thresholds as functions, and a stage that asks for them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg

from t2i.api import GenerationRequest
from t2i.checkpoints import load
from t2i.diffusion.guidance import Guidance, dynamic_threshold, rescale, static_threshold
from t2i.engine import runner
from t2i.families.model import Model


@pytest.fixture
def model(tiny_checkpoint) -> Model:
    return load(tiny_checkpoint, device="cpu", dtype="float32")


def pictures(seed: int = 0, scale: float = 1.0) -> torch.Tensor:
    return torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(seed)) * scale


def test_scale_one_is_the_conditional_answer_and_zero_the_unconditional() -> None:
    conditional, unconditional = pictures(1), pictures(2)
    torch.testing.assert_close(Guidance(1.0)(conditional, unconditional), conditional)
    torch.testing.assert_close(Guidance(0.0)(conditional, unconditional), unconditional)


@pytest.mark.parametrize("share", [0.3, 0.7, 1.0])
def test_rescale_is_that_of_diffusers(share: float) -> None:
    guided, conditional = pictures(1, 5.0), pictures(2)
    torch.testing.assert_close(rescale(guided, conditional, share), rescale_noise_cfg(guided, conditional, share))


def test_guidance_acts_within_its_interval() -> None:
    guidance = Guidance(5.0, start=0.2, stop=0.8)
    assert [guidance.acts_at(step, 10) for step in range(10)] == [2 <= step < 8 for step in range(10)]
    assert not any(Guidance(1.0).acts_at(step, 10) for step in range(10))


def test_the_dynamic_threshold_is_that_of_diffusers() -> None:
    scheduler = DDPMScheduler(thresholding=True, sample_max_value=2.5)
    denoised = pictures(scale=2.0)
    torch.testing.assert_close(dynamic_threshold(denoised, highest=2.5), scheduler._threshold_sample(denoised))


def test_a_dynamic_threshold_leaves_a_picture_in_range_alone() -> None:
    denoised = pictures().clamp(-1, 1)
    torch.testing.assert_close(dynamic_threshold(denoised), static_threshold(denoised))


def draw(model: Model, monkeypatch: pytest.MonkeyPatch, **fields) -> tuple[torch.Tensor, list[int]]:
    """Latents of a request whose first stage is changed by `fields`, and the rows each of its steps took."""
    stages = type(model).stages
    with monkeypatch.context() as patched:
        patched.setattr(model, "stages", lambda request: [replace(stages(model, request)[0], **fields)])
        sequence = runner.admit(model, GenerationRequest(prompt="a cat", seed=1, steps=5, width=16), "guided")
        rows = []
        while not sequence.finished:
            rows.append(sequence.rows)
            runner.step(model, [sequence])
    return sequence.latents, rows


def test_a_stage_pays_for_the_unconditional_half_only_while_guidance_acts(model, monkeypatch) -> None:
    whole, rows = draw(model, monkeypatch, guidance=Guidance(5.0))
    assert rows == [2, 2, 2, 2, 2]
    part, rows = draw(model, monkeypatch, guidance=Guidance(5.0, start=0.2, stop=0.6))
    assert rows == [1, 2, 2, 1, 1]
    assert not torch.equal(part, whole)


def test_a_stage_is_rescaled_and_thresholded_as_it_asks(model, monkeypatch) -> None:
    plain, _ = draw(model, monkeypatch, guidance=Guidance(25.0))
    assert plain.abs().max() <= 1
    rescaled, _ = draw(model, monkeypatch, guidance=Guidance(25.0, rescale=0.7))
    assert rescaled.std() < plain.std()
    unbounded, _ = draw(model, monkeypatch, guidance=Guidance(25.0), threshold=None)
    assert unbounded.abs().max() > 1
    dynamic, _ = draw(model, monkeypatch, guidance=Guidance(25.0), threshold=dynamic_threshold)
    assert dynamic.abs().max() <= 1
    assert not torch.equal(dynamic, plain)
