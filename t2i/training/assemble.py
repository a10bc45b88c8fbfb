"""From two networks to one checkpoint folder."""

from __future__ import annotations

import json
import shutil
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from diffusers import UNet2DConditionModel
from diffusers.utils import logging

from t2i.api import CheckpointInfo
from t2i.families import cascade
from t2i.families.networks import BaseDenoiser
from t2i.training import references, state
from t2i.training.config import Config, TrainingError, read_config
from t2i.training.learners import new_network, text_encoder_of
from t2i.training.tasks import NUM_TIMESTEPS


@dataclass(frozen=True, slots=True)
class _Part:
    """A network with the text encoder it was trained with, and the notice of what it was trained on, if there is one.
    `write_references` puts the pictures that it draws after, if it does, into a folder."""

    network: UNet2DConditionModel
    text_encoder: Path
    notice: Path
    write_references: Callable[[Path], object]


def assemble(base: Path, upsampler: Path, card: Path, out: Path) -> CheckpointInfo:
    """Write two networks, the text encoder, the base network's reference pictures and the index into `out`.

    `base` and `upsampler` are each the configuration of a run, whose averaged weights are taken, or a network's folder
    in a checkpoint. `card` is a TOML file with name, description, licence, upsampler_steps and defaults. Raises
    TrainingError.
    """
    parts = [_of_checkpoint(path) if path.is_dir() else _of_run(path) for path in (base, upsampler)]
    index = {**tomllib.loads(card.read_text()), "num_timesteps": NUM_TIMESTEPS}
    out.mkdir(parents=True, exist_ok=True)
    if BaseDenoiser(parts[0].network).sees_collages:
        parts[0].write_references(out / cascade.REFERENCES)
    cascade.save(out, index, parts[0].network, parts[1].network, parts[0].text_encoder)
    notices = dict.fromkeys(part.notice.read_text() for part in parts if part.notice.is_file())
    (out / "NOTICE").write_text("\n".join(notices))
    return cascade.describe(out)


def _of_run(config_path: Path) -> _Part:
    config = read_config(config_path)
    if not isinstance(config, Config):
        raise TrainingError(f"{config_path} trains a LoRA, which is no part of a checkpoint.")
    trained = state.averaged(Path(config.out), config.task)
    text_encoder = text_encoder_of(config)
    # What the run started from may be gone by now.
    network = new_network(
        replace(config, init=""), json.loads((text_encoder / "config.json").read_text())["hidden_size"]
    )
    network.load_state_dict(trained)
    data = Path(config.data)
    write = partial(references.write, data, text_encoder, config.resolution)
    return _Part(network, text_encoder, data / "NOTICE", write)


def _of_checkpoint(folder: Path) -> _Part:
    logging.disable_progress_bar()
    network = UNet2DConditionModel.from_pretrained(folder, local_files_only=True)
    copy = partial(shutil.copytree, folder.parent / cascade.REFERENCES, dirs_exist_ok=True)
    return _Part(network, folder.parent / "text_encoder", folder.parent / "NOTICE", copy)
