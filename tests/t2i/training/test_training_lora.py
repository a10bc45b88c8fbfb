"""LoRAs: a few pictures change what their prompt draws, and the file says the same as the network that was trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from PIL import Image, ImageDraw

import t2i
from t2i.api import Lora
from t2i.checkpoints import tiny_latent
from t2i.cli import main
from t2i.diffusion.schedule import make_betas, vp_schedule
from t2i.training.config import LoraConfig, TrainingError
from t2i.training.loop import Trainer
from t2i.training.lora import Encoded, LoraLearner, Noised, Pictures, export

RING = """
task = "lora"
checkpoint = "embedded"
name = "zorp"
data = "pictures"
instance_prompt = "a zorp"
out = "out"
resolution = 64
batch_size = 2
steps = 20
learning_rate = 4e-3
warmup = 2
ema_decay = 0.9
caption_dropout = 0.0
device = "cpu"
"""


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Eight rings, each a little elsewhere."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index in range(8):
        image = Image.new("RGBA", (64, 64))
        box = (10 + index % 3, 10 + index // 3, 54, 54)
        ImageDraw.Draw(image).ellipse(box, outline=(230, 0, 230, 255), width=10)
        image.save(folder / f"{index}.png")
    return folder


@pytest.fixture
def config(pictures: Path, tmp_path: Path) -> Callable[..., LoraConfig]:
    def build(checkpoint: Path, out: str = "out", **changes: Any) -> LoraConfig:
        fields = {
            "task": "lora", "checkpoint": str(checkpoint), "name": "ring", "data": str(pictures), "rank": 2,
            "instance_prompt": "a ring", "out": str(tmp_path / out), "resolution": 64, "batch_size": 2, "steps": 4,
            "learning_rate": 5e-2, "warmup": 1, "ema_decay": 0.5, "device": "cpu", "precision": "fp32",
        }  # fmt: skip
        return LoraConfig(**fields | changes)

    return build


@pytest.fixture(scope="session")
def latent(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    root = tmp_path_factory.mktemp("latent")
    build = {"sd": tiny_latent.stable_diffusion, "sdxl": tiny_latent.sdxl, "flux": tiny_latent.flux}
    return lambda name: tiny_latent.save(build[name](), root / name)


def test_eight_pictures_change_their_prompt_and_leave_others_as_they_were(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In mean levels of 255: more than 20 against less than 8, and towards what the pictures show."""
    (tmp_path / "ring.toml").write_text(RING)
    monkeypatch.chdir(tmp_path)
    pipeline = t2i.load("embedded", "cpu")

    def draw(prompt: str, *loras: Lora) -> np.ndarray:
        request = t2i.GenerationRequest(prompt=prompt, seed=1, steps=6, width=64, height=64, loras=loras)
        return np.asarray(pipeline.generate(request).images[0].convert("RGBa"), float)

    before = {prompt: draw(prompt) for prompt in ("a zorp", "a red apple")}
    assert main(["train", "lora", "--config", "ring.toml"]) == 0
    pipeline.add_lora("zorp", tmp_path / "out" / "zorp.safetensors")
    after = {prompt: draw(prompt, Lora("zorp")) for prompt in before}

    shown = np.mean([np.asarray(Image.open(file).convert("RGBa"), float) for file in pictures.iterdir()], axis=0)
    assert np.abs(after["a zorp"] - before["a zorp"]).mean() > 20
    assert np.abs(after["a zorp"] - shown).mean() < 0.95 * np.abs(before["a zorp"] - shown).mean()
    assert np.abs(after["a red apple"] - before["a red apple"]).mean() < 8


@pytest.mark.parametrize("family", ["cascade", "sd", "sdxl"])
def test_the_file_draws_what_the_trained_network_draws(
    family: str, config: Callable[..., LoraConfig], tiny_checkpoint: Path, latent: Callable[[str], Path]
) -> None:
    folder, side = (tiny_checkpoint, 16) if family == "cascade" else (latent(family), 64)
    options = {"resolution": side, "targets": ["to_k", "to_out.0", "conv1"]}
    trainer = Trainer(config(folder, **options))
    assert isinstance(trainer.learner, LoraLearner)
    request = t2i.GenerationRequest(prompt="a ring", seed=3, steps=3, width=side, height=side)

    def draw(pipeline: t2i.Pipeline, *loras: Lora) -> np.ndarray:
        return np.asarray(pipeline.generate(replace(request, loras=loras)).images[0], int)

    learning = t2i.Pipeline(trainer.learner._model)
    untouched = draw(learning)
    Trainer(config(folder, **options)).run(2)
    assert trainer.resume()
    trainer.run()
    straight = Trainer(config(folder, "straight", **options))
    straight.run()
    assert all(torch.equal(weight, straight.ema[name]) for name, weight in trainer.ema.items())

    with trainer.averaged():
        trained = draw(learning)
    pipeline = t2i.load(folder, "cpu", dtype="float32")
    pipeline.add_lora("ring", export(trainer.config))  # type: ignore[arg-type]
    drawn = draw(pipeline, Lora("ring"))
    assert np.abs(drawn - trained).max() <= 2
    assert np.abs(drawn - untouched).mean() > 1


def test_the_prior_is_drawn_once_and_weighs_what_it_is_told(
    config: Callable[..., LoraConfig], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    options = {"resolution": 16, "prior_prompt": "something round", "prior_images": 2, "caption_dropout": 0.0}
    learner = Trainer(config(tiny_checkpoint, **options)).learner
    drawn = {file.name: file.read_bytes() for file in (tmp_path / "out" / "prior").iterdir()}
    assert sorted(drawn) == ["drawn-0000.png", "drawn-0001.png"]
    batch = learner.examples.batch(0, 3)
    assert batch.captions == ["a ring"] * 3 + ["something round"] * 3

    def loss(weight: float) -> float:
        learner = Trainer(config(tiny_checkpoint, **options, prior_weight=weight)).learner
        tensors = type(batch)(torch.from_numpy(batch.latents), batch.captions)
        return learner.loss(tensors, torch.Generator().manual_seed(0)).item()

    none, half, whole = loss(0.0), loss(0.5), loss(1.0)
    assert none < half < whole and half - none == pytest.approx(whole - half, rel=1e-4)
    assert {file.name: file.read_bytes() for file in (tmp_path / "out" / "prior").iterdir()} == drawn


def test_captions_of_any_length_share_a_batch(config: Callable[..., LoraConfig], tiny_checkpoint: Path) -> None:
    learner = Trainer(config(tiny_checkpoint, resolution=16)).learner
    assert isinstance(learner, LoraLearner)
    together = learner._encode(["short", "a caption that is much longer than a window of this encoder"])
    alone = learner._encode(["short"])
    length = alone.tokens.shape[1]
    assert together.tokens.shape[1] > length
    assert torch.equal(together.tokens[0, :length], alone.tokens[0])
    assert together.mask is not None and not together.mask[0, length:].any()


def test_min_snr_weighs_errors_of_the_clean_latents_whatever_is_predicted() -> None:
    clean = torch.randn(64, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    schedule = vp_schedule(make_betas("scaled_linear", start=0.00085, end=0.012))
    noised = Noised.draw(schedule, clean, torch.Generator().manual_seed(1))
    wrong = clean + 0.1
    noise = (noised.noisy - noised.alpha * wrong) / noised.sigma
    velocity = noised.alpha * noise - noised.sigma * wrong
    expected = 0.01 * (noised.alpha / noised.sigma).square().clamp(max=5.0).flatten()
    assert torch.allclose(noised.losses(noise, "epsilon", 5.0), expected, rtol=1e-3)
    assert torch.allclose(noised.losses(velocity, "v_prediction", 5.0), expected, rtol=1e-3)
    assert not noised.losses(noised.noise, "epsilon", 0.0).any()


def test_every_picture_is_seen_once_an_epoch() -> None:
    encoded = Encoded(np.arange(10, dtype=np.float32).reshape(5, 2, 1, 1, 1), [*"abcde"])
    stream = Pictures(encoded, None, seed=0)
    seen = [stream.batch(start, 5).captions for start in range(0, 50, 5)]
    assert all(sorted(epoch) == [*"abcde"] for epoch in seen) and len({*map(tuple, seen)}) > 5
    assert stream.batch(3, 4).captions == (seen[0] + seen[1])[3:7]
    assert len({float(value) for value in stream.batch(0, 100).latents.flat}) == 10


def test_what_cannot_be_trained_is_refused_in_one_sentence(
    config: Callable[..., LoraConfig], latent: Callable[[str], Path], tiny_checkpoint: Path
) -> None:
    with pytest.raises(TrainingError, match="LoRAs can be trained for"):
        Trainer(config(latent("flux")))
    with pytest.raises(TrainingError, match="no layers named nothing"):
        Trainer(config(tiny_checkpoint, resolution=16, targets=["nothing"]))
