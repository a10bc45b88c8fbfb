"""From two finished runs to one checkpoint folder."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

from diffusers import UNet2DConditionModel
from safetensors import safe_open

from t2i.api import CheckpointInfo
from t2i.families import cascade
from t2i.families.networks import build_network
from t2i.training.loop import TrainingError, read_config
from t2i.training.tasks import NUM_TIMESTEPS, TASKS

_EMA = "ema."


def assemble(base: Path, upsampler: Path, card: Path, out: Path) -> CheckpointInfo:
    """Write the averaged weights of both runs, the text encoder and the index into `out`.

    `card` is a TOML file with name, description, licence, upsampler_steps and defaults. Raises TrainingError.
    """
    data = Path(read_config(base).data)
    text_encoder = data / "text_encoder"
    index = {**tomllib.loads(card.read_text()), "num_timesteps": NUM_TIMESTEPS}
    out.mkdir(parents=True, exist_ok=True)
    cascade.save(out, index, _averaged(base, text_encoder), _averaged(upsampler, text_encoder), text_encoder)
    (out / "NOTICE").write_bytes((data / "NOTICE").read_bytes())
    return cascade.describe(out)


def _averaged(config_path: Path, text_encoder: Path) -> UNet2DConditionModel:
    config = read_config(config_path)
    state = Path(config.out) / "state.safetensors"
    if not state.exists():
        raise TrainingError(f"{config.out} holds no trained network yet: run t2i train {config.task} first.")
    unet = build_network(
        config.network,
        resolution=config.resolution,
        text_dim=json.loads((text_encoder / "config.json").read_text())["hidden_size"],
        condition_channels=TASKS[config.task].condition_channels(config.network.patch),
    )
    with safe_open(state, "pt") as file:
        unet.load_state_dict(
            {key.removeprefix(_EMA): file.get_tensor(key) for key in file.keys() if key.startswith(_EMA)}  # noqa: SIM118
        )
    return unet
