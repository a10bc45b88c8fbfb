"""What a job costs its user's place in line."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from bot.jobs.model import JobKind
from bot.jobs.work import cost
from bot.prompt.options import JobOptions

from .scripted_engine import EMBEDDED

GRID = JobOptions(prompt="x", images=4)


def test_it_is_steps_times_pixels_times_pictures_with_the_checkpoints_own_defaults() -> None:
    upscale = JobOptions(prompt="x", images=1, steps=20)
    assert cost(JobKind.IMAGINE, GRID, EMBEDDED) == pytest.approx(10 * 64 * 64 * 4 / 1e6)
    assert cost(JobKind.UPSCALE, upscale, EMBEDDED) == pytest.approx(20 * 256 * 256 / 1e6)
    assert cost(JobKind.IMAGINE, GRID, None) > 0


def test_the_second_evaluation_of_heun_counts() -> None:
    heun = replace(GRID, sampler="heun")
    assert cost(JobKind.IMAGINE, heun, EMBEDDED) == pytest.approx(19 / 10 * cost(JobKind.IMAGINE, GRID, EMBEDDED))
