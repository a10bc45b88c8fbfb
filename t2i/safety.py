"""The safety checker of Stable Diffusion as a picture classifier for the bot.

It needs PyTorch, so it lives here, and the bot's scoring process loads it by name:
`IMAGINE_CLASSIFIER=t2i.safety:SafetyChecker`.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence

import torch
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker, cosine_distance
from PIL import Image
from transformers import CLIPImageProcessor

SOURCE = "CompVis/stable-diffusion-safety-checker"
"""Looked up in the hub's cache and never downloaded."""
FOLDER_SETTING = "T2I_SAFETY_CHECKER"
"""Environment variable that names a folder with the weights instead."""

FLAGGED = 0.8
"""The score of a picture that the checker is about to flag."""
STEEPNESS = 60.0
"""A likeness of 0.01 more or less moves the score to 0.88 or 0.69."""
_CARE = 0.01  # how much sooner it flags what looks like a child


class SafetyChecker:
    """Compares CLIP's view of a picture with 17 concepts that are not published. Raises OSError without weights."""

    def __init__(self, source: str | None = None) -> None:
        source = source or os.environ.get(FOLDER_SETTING) or SOURCE
        self._network = StableDiffusionSafetyChecker.from_pretrained(source, local_files_only=True).eval()
        self._prepare = CLIPImageProcessor.from_pretrained(source, local_files_only=True)

    @torch.inference_mode()
    def score(self, pictures: Sequence[bytes]) -> list[float]:
        """FLAGGED or more exactly where the checker itself would blacken a picture. Raises OSError for what is none."""
        if not pictures:
            return []
        views = [Image.open(io.BytesIO(picture)).convert("RGB") for picture in pictures]
        network = self._network
        seen = network.vision_model(self._prepare(views, return_tensors="pt").pixel_values)[1]
        embedded = network.visual_projection(seen)
        care = cosine_distance(embedded, network.special_care_embeds) - network.special_care_embeds_weights
        excess = cosine_distance(embedded, network.concept_embeds) - network.concept_embeds_weights
        # Rounded as the checker itself rounds.
        careful = (care.double().round(decimals=3) > 0).any(dim=1, keepdim=True)
        nearest = (excess + _CARE * careful).double().round(decimals=3).amax(dim=1)
        odds = FLAGGED / (1 - FLAGGED) * torch.exp(STEEPNESS * nearest)
        return (odds / (1 + odds)).tolist()
