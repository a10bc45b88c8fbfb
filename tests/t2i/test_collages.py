"""A checkpoint with reference pictures draws after them, whoever else is drawn at the same time."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import t2i
from t2i.api import GenerationRequest
from t2i.checkpoints import tiny
from t2i.engine import runner


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.build(tmp_path_factory.mktemp("checkpoints") / "collages", steps=4, collages=True)


@pytest.fixture
def model(folder: Path, monkeypatch: pytest.MonkeyPatch):
    # To an untrained text encoder all things are alike: only equal names are found.
    monkeypatch.setattr("t2i.families.references._LEAST", 1.1)
    return t2i.checkpoints.load(folder, "cpu", dtype="float32")


def request(prompt: str, **fields) -> GenerationRequest:
    return GenerationRequest(prompt=prompt, seed=3, **{"width": 16, "images": 2} | fields)


def finish(model, *sequences: runner.Sequence) -> None:
    while flying := [sequence for sequence in sequences if not sequence.finished]:
        runner.step(model, [*flying])


def test_what_a_prompt_names_is_drawn_after_and_only_half_anew(model) -> None:
    sequence = runner.admit(model, request("a blue square"), "a")
    assert sequence.steps == 2, "half of the schedule, as the checkpoint says"
    seen = sequence.condition
    assert seen.shape == (2, 4, 16, 16)
    assert seen[0, 2].mean() > seen[0, 0].mean()
    assert not torch.equal(seen[0], seen[1]), "every picture has a collage of its own"
    plan = sequence.stage.plan
    start = plan.start_alpha * seen + plan.start_sigma * sequence._noise
    assert torch.allclose(sequence.latents, start, atol=1e-6)


def test_without_a_picture_of_it_a_thing_is_drawn_from_noise(model) -> None:
    sequence = runner.admit(model, request("zzz"), "a")
    assert sequence.steps == 4
    assert (sequence.condition == -1).all()
    assert torch.allclose(sequence.latents, sequence._noise * sequence.stage.plan.start_scale)


def test_requests_with_and_without_collages_share_forwards_and_change_nothing(model) -> None:
    requests = {"a": request("a red square"), "b": request("zzz", guidance_scale=1.0), "c": request("a blue square")}
    alone = {}
    for name, one in requests.items():
        alone[name] = runner.admit(model, one, name)
        finish(model, alone[name])
    together = {name: runner.admit(model, one, name) for name, one in requests.items()}
    assert len({sequence.group for sequence in together.values()}) == 1
    finish(model, *together.values())
    for name, sequence in together.items():
        assert torch.allclose(sequence.latents, alone[name].latents, atol=1e-5)


def test_the_network_sees_a_persons_own_picture(model) -> None:
    file = io.BytesIO()
    Image.new("RGBA", (32, 32), (0, 200, 0, 255)).save(file, "PNG")
    sequence = runner.admit(model, request("a red square", image=file.getvalue(), strength=0.5), "a")
    assert sequence.condition[0, 1].mean() > 0.5 > sequence.condition[0, 0].mean()
    finish(model, sequence)
    assert np.isfinite(sequence.latents.numpy()).all()
