"""The safety checker of Stable Diffusion, with random weights, flags exactly what it would blacken."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker, cosine_distance
from PIL import Image
from transformers import CLIPConfig, CLIPImageProcessor

from t2i.safety import FLAGGED, SafetyChecker


def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)).resize((32, 32)) for _ in range(60)]


def encoded(picture: Image.Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


@torch.inference_mode()
def save_tiny_checker(folder: Path) -> list[bool]:
    """One with random weights that would blacken about half of the pictures; which of them it would."""
    torch.manual_seed(0)
    sides = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    sight = sides | {"image_size": 32, "patch_size": 16}
    checker = StableDiffusionSafetyChecker(CLIPConfig(text_config=sides, vision_config=sight, projection_dim=6)).eval()
    prepare = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    prepared = prepare(pictures(), return_tensors="pt").pixel_values
    seen = checker.visual_projection(checker.vision_model(prepared)[1])
    for concepts, limits in (
        (checker.concept_embeds, checker.concept_embeds_weights),
        (checker.special_care_embeds, checker.special_care_embeds_weights),
    ):
        concepts.copy_(torch.randn_like(concepts))
        limits.copy_(cosine_distance(seen, concepts).amax(dim=1).median().expand_as(limits))
    checker.save_pretrained(folder)
    prepare.save_pretrained(folder)
    blackened: list[bool] = checker(clip_input=prepared, images=np.zeros((60, 2, 2, 3)))[1]
    return blackened


def test_it_scores_high_what_the_checker_would_blacken(tmp_path: Path) -> None:
    blackened = save_tiny_checker(tmp_path)
    assert 10 < sum(blackened) < 50, "otherwise this would show nothing"
    scores = SafetyChecker(str(tmp_path)).score([encoded(picture) for picture in pictures()])
    assert all(0 <= score <= 1 for score in scores)
    assert [score > FLAGGED for score in scores] == blackened


def test_without_weights_it_cannot_be_made(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        SafetyChecker(str(tmp_path))
