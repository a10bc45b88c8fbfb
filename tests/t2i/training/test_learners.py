"""What runs learn: every tensor on the network's device, and guidance folded into a network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from t2i.families.model import TextStates
from t2i.families.networks import BaseDenoiser
from t2i.training.config import Config, TrainingError
from t2i.training.learners import NetworkLearner
from t2i.training.loop import Trainer
from t2i.training.tasks import TASKS, to_timesteps

META = torch.device("meta")


@pytest.mark.parametrize("task", TASKS)
def test_a_task_computes_where_its_network_is(config: Callable[..., Config], task: str) -> None:
    """The meta device computes shapes only, and refuses to mix with another as a GPU does."""
    learner = NetworkLearner(config(task=task), torch.device("cpu"))
    learner.network.to(META)
    text = learner.encoder.encode(["one", "two"])
    assert text.mask is not None and text.pooled is not None
    there = TextStates(text.tokens.to(META), text.mask.to(META), text.pooled.to(META))
    pixels = torch.empty(2, 4, 16, 16, device=META)
    still = torch.Generator()
    assert learner.task.loss(learner.network, pixels, pixels, there, still).device == META
    assert learner.task.sample(learner.network, pixels, pixels, there, there, still).device == META


def test_a_distilled_network_answers_at_once_what_guidance_makes_of_its_teacher(
    config: Callable[..., Config], tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A teacher that answers 0.1 to a caption and -0.1 to none makes 0.5 of a caption with a guidance of 3."""
    options = {"steps": 30, "learning_rate": 1e-2, "ema_decay": 0.8, "guidance": 3.0, "caption_dropout": 0.0}
    trainer = Trainer(config(task="distil", init=str(tiny_checkpoint), **options))
    learner = trainer.learner
    assert isinstance(learner, NetworkLearner)
    text, empty = learner.encoder.encode(["red square", "blue square"]), learner.encoder.encode(["", ""])
    assert empty.pooled is not None
    nothing = empty.pooled[0]

    def teacher(noisy: Tensor, timesteps: Tensor, text: TextStates, collages: Tensor) -> Tensor:
        assert text.pooled is not None
        silent = torch.isclose(text.pooled, nothing, atol=1e-4).all(1)
        return torch.where(silent, -0.1, 0.1)[:, None, None, None].expand_as(noisy)

    monkeypatch.setattr(learner, "_teacher", teacher)
    trainer.run()

    noise = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(9))
    with trainer.averaged(), torch.inference_mode():
        student = BaseDenoiser(learner.network)
        answer = student(noise, to_timesteps(torch.tensor([0.6, 0.9])), text)
    assert float(answer.mean()) == pytest.approx(0.5, abs=0.15)


def test_a_network_cannot_be_distilled_from_nothing(config: Callable[..., Config]) -> None:
    with pytest.raises(TrainingError, match="name its folder as 'init'"):
        Trainer(config(task="distil"))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_run_on_a_gpu_resumes_and_learns(config: Callable[..., Config]) -> None:
    options = {"device": "cuda", "workers": 2, "steps": 40, "learning_rate": 3e-3, "sample_prompts": ["", ""]}
    Trainer(config(**options)).run(20)
    resumed = Trainer(config(**options))
    assert resumed.resume() and resumed.step == 20
    resumed.run()
    assert sum(resumed.losses[-10:]) < 0.7 * sum(resumed.losses[:10])
