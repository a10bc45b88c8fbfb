"""The loop: exact resumption, a state that is whole or the one before, and every way to compute a step."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from t2i.training import state
from t2i.training.config import Config, TrainingError
from t2i.training.learners import NetworkLearner
from t2i.training.loop import Trainer

Build = Callable[..., Config]


def run(config: Config, until: int | None = None) -> Trainer:
    """A trainer that took up what is there and ran on."""
    trainer = Trainer(config)
    trainer.resume()
    trainer.run(until)
    return trainer


def same(one: Trainer, other: Trainer) -> bool:
    pairs = [*zip(one.ema.values(), other.ema.values(), strict=True)]
    pairs += zip(one.weights.values(), other.weights.values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize(
    "changes",
    [{"accumulate": 2, "batch_size": 2, "workers": 1}, {"task": "upsampler"}, {"precision": "fp16"}],
    ids=["base", "upsampler", "fp16"],
)
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(config: Build, changes: dict[str, object]) -> None:
    straight = run(config("straight", **changes))
    run(config("broken", **changes), until=10)

    resumed = Trainer(config("broken", **changes))
    assert resumed.resume()
    assert (resumed.step, resumed.examples) == (10, straight.examples // 2)
    resumed.run()

    assert resumed.losses == pytest.approx(straight.losses, abs=1e-5)
    assert same(resumed, straight)


def test_gathered_gradients_are_those_of_one_large_batch(config: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same noise for all, the loss of eight examples is the mean of those of four and four; and activations
    computed twice are the same."""
    monkeypatch.setattr(NetworkLearner, "loss", lambda self, batch, generator: _plain_loss(self, batch))
    options = {"precision": "fp32", "caption_dropout": 0.0, "steps": 2}
    halves = run(config("halves", batch_size=4, accumulate=2, **options))
    whole = run(config("whole", batch_size=8, gradient_checkpointing=True, **options))
    assert halves.examples == whole.examples == 16
    assert halves.losses == pytest.approx(whole.losses, rel=1e-4)
    for name, weight in whole.weights.items():
        assert torch.allclose(halves.weights[name], weight, atol=1e-5), name


def _plain_loss(learner: NetworkLearner, batch: object) -> torch.Tensor:
    pixels, captions, collages = batch  # type: ignore[misc]
    still = torch.Generator().manual_seed(0)
    losses = [
        learner.task.loss(learner.network, *parts, learner._encode([caption]), still.manual_seed(0))
        for *parts, caption in zip(pixels.split(1), collages.split(1), captions, strict=True)
    ]
    return torch.stack(losses).mean()


@pytest.mark.parametrize(("task", "share"), [("base", 0.97), ("upsampler", 0.6)])
def test_a_network_learns(config: Build, task: str, share: float) -> None:
    """By examples that the run never came to, with the same noise before and after. Collages show a base network nearly
    all that there is, so it has little left to learn."""
    trainer = Trainer(config(task=task, steps=50, learning_rate=3e-3, ema_decay=0.9))
    batch = trainer.learner.examples.batch(1000, 32)
    tensors = (torch.from_numpy(batch.pixels), batch.captions, torch.from_numpy(batch.collages))

    @torch.no_grad()
    def loss() -> float:
        return trainer.learner.loss(tensors, torch.Generator().manual_seed(0)).item()

    untrained = loss()
    trainer.run()
    with trainer.averaged():
        assert loss() < share * untrained


def test_a_signal_saves_and_ends_the_run(config: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    step = Trainer._train_step

    def interrupted(trainer: Trainer, batches: object) -> dict[str, float]:
        if trainer.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(trainer, batches)  # type: ignore[arg-type]

    monkeypatch.setattr(Trainer, "_train_step", interrupted)
    before = signal.getsignal(signal.SIGTERM)
    stopped = run(config())
    assert stopped.step == 4 and signal.getsignal(signal.SIGTERM) is before
    saved = state.load(stopped.out)
    assert saved is not None and saved.step == 4 and len(saved.losses) == 4


def test_a_loss_that_is_no_number_ends_the_run_and_leaves_the_last_state(
    config: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = run(config(), until=2)
    loss = trainer.learner.loss
    monkeypatch.setattr(trainer.learner, "loss", lambda batch, generator: loss(batch, generator) * torch.nan)
    with pytest.raises(TrainingError, match="The loss is nan at step 2"):
        trainer.run()
    assert all(weight.isfinite().all() for weight in trainer.weights.values())
    saved = state.load(trainer.out)
    assert saved is not None and saved.step == 2


def test_a_gradient_that_is_no_number_changes_no_weight(config: Build) -> None:
    trainer = Trainer(config())
    last = trainer.weights["conv_out.bias"]
    last.register_hook(lambda gradient: gradient * torch.inf)
    with pytest.raises(TrainingError, match="The gradient is"):
        trainer.run(1)
    assert not last.any()


def test_a_crash_while_saving_leaves_the_state_before(config: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = run(config(), until=2)

    def torn(tensors: dict[str, torch.Tensor], path: Path, metadata: dict[str, str]) -> None:
        path.write_bytes(b"half")
        raise OSError

    monkeypatch.setattr(state, "save_file", torn)
    with pytest.raises(OSError):
        trainer.run(4)
    resumed = Trainer(config())
    assert resumed.resume() and resumed.step == 2 and len(resumed.losses) == 2


def test_the_data_goes_on_where_it_was_when_the_batch_changes(config: Build) -> None:
    run(config(), until=3)
    resumed = run(config(batch_size=2), until=4)
    assert resumed.examples == 3 * 4 + 2


def test_a_state_that_does_not_count_its_examples_is_taken_up(config: Build) -> None:
    """As runs wrote them before they could gather gradients."""
    trainer = run(config(), until=2)
    path = trainer.out / "state.safetensors"
    save_file(load_file(path), path, {"step": "2", "config": json.dumps({"batch_size": 4})})
    resumed = Trainer(config())
    assert resumed.resume() and resumed.examples == 8 and same(resumed, trainer)


def test_a_state_of_another_network_is_refused(config: Build) -> None:
    run(config(), until=1)
    with pytest.raises(TrainingError, match="another network"):
        Trainer(config(task="upsampler")).resume()


def test_a_damaged_state_is_named(config: Build) -> None:
    trainer = run(config(), until=1)
    (trainer.out / "state.safetensors").write_bytes(b"no")
    with pytest.raises(TrainingError, match="is damaged"):
        Trainer(config()).resume()
