"""What a run is told: configurations, and the sentences that meet a bad one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from t2i import checkpoints
from t2i.families.networks import NetworkShape
from t2i.training.config import Config, TrainingError, read_config
from t2i.training.learners import NetworkLearner, init_folder, text_encoder_of
from t2i.training.loop import Trainer

CONFIGS = Path(__file__).parents[3] / "configs"
RUNS = {path.stem: path for path in sorted(CONFIGS.glob("*.toml")) if "task =" in path.read_text()}
GOOD = (CONFIGS / "tiny.toml").read_text()


@pytest.mark.parametrize("name", RUNS)
def test_a_shipped_configuration_is_readable(name: str) -> None:
    assert name.startswith(read_config(RUNS[name]).task) or name == "tiny"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("task = 'base'", "is not a training configuration"),
        ("task = ", "is not a training configuration"),
        (GOOD + "\n[grups]\n", "grups"),
        (GOOD.replace('"base"', '"music"'), "must be one of base, upsampler, distil, lora"),
        (GOOD.replace("steps = 50", "steps = 0"), "steps must be at least 1"),
        (GOOD.replace("warmup = 5", 'precision = "int4"'), "precision must be one of bf16, fp16, fp32"),
    ],
)
def test_a_bad_configuration_is_named(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "run.toml"
    file.write_text(text)
    with pytest.raises(TrainingError, match=message):
        read_config(file)


def test_a_run_without_its_data_says_what_is_missing(config: Callable[..., Config], tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"holds no captions.jsonl and no pictures"):
        Trainer(config(data=str(tmp_path / "nothing")))


def test_a_run_starts_from_the_network_of_a_checkpoint(config: Callable[..., Config], tiny_checkpoint: Path) -> None:
    """Here of one that sees no collages: those say nothing at first, and what is drawn is learnt anew."""
    from safetensors.torch import load_file

    learner = NetworkLearner(config(init=str(tiny_checkpoint)), Trainer(config()).device)
    (shard,) = (tiny_checkpoint / "base").glob("*.safetensors")
    for name, weight in load_file(shard).items():
        found = learner.network.state_dict()[name]
        if name == "conv_in.weight":
            assert not found[:, weight.shape[1] :].any()
            found = found[:, : weight.shape[1]]
        if name.startswith("conv_out"):
            assert not found.any()
        else:
            assert found.equal(weight.float()), name


def test_a_network_that_does_not_fit_is_refused(config: Callable[..., Config], tiny_checkpoint: Path) -> None:
    with pytest.raises(TrainingError, match="cannot start from"):
        Trainer(config(init=str(tiny_checkpoint), network=NetworkShape([32, 64], [False, True], 4)))


def test_data_without_a_text_encoder_is_read_by_that_of_the_embedded_checkpoint(
    config: Callable[..., Config], tmp_path: Path
) -> None:
    embedded = checkpoints.resolve(checkpoints.EMBEDDED)
    assert text_encoder_of(config(data=str(tmp_path))) == embedded / "text_encoder"
    assert init_folder(config(init="embedded", task="upsampler")) == embedded / "upsampler"
