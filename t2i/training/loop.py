"""One training loop for every network: resumable to the bit, saved atomically, looked at while it runs."""

from __future__ import annotations

import json
import math
import signal
import time
import tomllib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from PIL import Image
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from t2i.api import T2IError
from t2i.families.model import TextStates
from t2i.families.networks import NetworkShape, build_network, start_from
from t2i.families.text import TextEncoder
from t2i.training.data import Composer, load_folder
from t2i.training.tasks import TASKS


class TrainingError(T2IError):
    """A training run cannot start or go on."""


@dataclass(frozen=True, slots=True)
class Config:
    """One run, as a TOML file holds it."""

    task: str
    data: str
    out: str
    resolution: int
    batch_size: int
    steps: int
    network: NetworkShape
    init: str | None = None
    """Folder of a network to start from, which may see fewer channels; None starts from nothing."""
    learning_rate: float = 8e-4
    warmup: int = 200
    ema_decay: float = 0.999
    caption_dropout: float = 0.1
    seed: int = 0
    sample_every: int = 500
    save_every: int = 250
    sample_prompts: list[str] = field(default_factory=list)
    group_weights: dict[str, float] = field(default_factory=dict)


def read_config(path: Path) -> Config:
    try:
        values = tomllib.loads(path.read_text())
        config = Config(**{**values, "network": NetworkShape(**values["network"])})
    except (OSError, tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise TrainingError(f"{path} is not a training configuration: {error}.") from error
    if config.task not in TASKS:
        raise TrainingError(f"{path} names the task {config.task!r}; it must be one of {', '.join(TASKS)}.")
    return config


class Trainer:
    """Holds the network, its moving average, the optimiser and the position in the data; `run` does the steps."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.out = Path(config.out)
        self.task = TASKS[config.task]
        torch.manual_seed(config.seed)
        data = Path(config.data)
        arts = load_folder(data, config.resolution)
        self.composer = Composer(arts, config.seed, config.group_weights, collages=self.task.collages)
        self.encoder = TextEncoder(data / "text_encoder", torch.device("cpu"))
        self.unet = build_network(
            config.network,
            resolution=config.resolution,
            text_dim=self.encoder.dim,
            condition_channels=self.task.condition_channels(config.network.patch),
        ).to(memory_format=torch.channels_last)
        if config.init is None:
            _zero_last_layer(self.unet)
        else:
            _take_over(self.unet, Path(config.init))
        self.ema = {name: weight.detach().clone() for name, weight in self.unet.state_dict().items()}
        self.optimizer = torch.optim.AdamW(
            self.unet.parameters(), lr=config.learning_rate, weight_decay=0.01, fused=True
        )
        self.step = 0
        self.losses: list[float] = []
        self._stop = False

    def run(self, until: int | None = None) -> None:
        """Train to step `until` (default: the configured number); SIGTERM and Ctrl-C save and return."""
        target = self.config.steps if until is None else until
        self.out.mkdir(parents=True, exist_ok=True)
        previous = {number: signal.signal(number, self._request_stop) for number in (signal.SIGTERM, signal.SIGINT)}
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        try:
            with Progress(*columns) as bar:
                row = bar.add_task(self.config.task, total=target, completed=self.step)
                while self.step < target and not self._stop:
                    self._train_step()
                    recent = self.losses[-50:]
                    bar.update(row, completed=self.step, description=f"{self.config.task} {np.mean(recent):.4f}")
                    if self.step % self.config.sample_every == 0:
                        self.sample(self.out / f"samples-{self.step:06d}.png")
                    if self.step % self.config.save_every == 0:
                        self.save()
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
        self.save()

    def _request_stop(self, number: int, frame: FrameType | None) -> None:
        self._stop = True

    def _train_step(self) -> None:
        config = self.config
        # Every random choice of a step comes from (seed, step), so resuming needs no generator state.
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + self.step)
        pixels, captions, collages = self.composer.batch(self.step * config.batch_size, config.batch_size)
        dropped = torch.rand(len(captions), generator=generator) < config.caption_dropout
        text = self._encode(["" if drop else caption for drop, caption in zip(dropped, captions, strict=True)])
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = self.task.loss(self.unet, torch.from_numpy(pixels), torch.from_numpy(collages), text, generator)
        if not torch.isfinite(loss):
            raise TrainingError(f"The loss is {loss.item()} at step {self.step}; lower the learning rate and resume.")
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.unet.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        self.losses.append(loss.item())
        self._update_ema()

    def _encode(self, captions: list[str]) -> TextStates:
        text = self.encoder.encode(captions)
        assert text.mask is not None and text.pooled is not None
        # Inference tensors cannot take part in autograd; copies can.
        return TextStates(text.tokens.clone(), text.mask.clone(), text.pooled.clone())

    def _learning_rate(self) -> float:
        config = self.config
        warm = min(1.0, (self.step + 1) / config.warmup)
        return config.learning_rate * warm * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * self.step / config.steps)))

    @torch.no_grad()
    def _update_ema(self) -> None:
        # A short memory at first, so that early samples are not the initial weights.
        decay = min(self.config.ema_decay, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(list(self.ema.values()), list(self.unet.state_dict().values()), 1 - decay)

    @torch.inference_mode()
    def sample(self, path: Path) -> None:
        """A sheet of the configured prompts, drawn with the averaged weights, over the colour of a dark chat."""
        prompts = self.config.sample_prompts
        if not prompts:
            return
        current = {name: weight.clone() for name, weight in self.unet.state_dict().items()}
        self.unet.load_state_dict(self.ema)
        generator = torch.Generator().manual_seed(self.config.seed)
        pixels, captions, collages = self.composer.batch(0, len(prompts))
        text, empty = self.encoder.encode(captions), self.encoder.encode([""] * len(captions))
        shown = torch.from_numpy(pixels), torch.from_numpy(collages)
        drawn = self.task.sample(self.unet, *shown, text, empty, generator)
        self.unet.load_state_dict(current)
        _sheet(torch.cat([*shown, drawn])).save(path)

    # --- saving and resuming -----------------------------------------------------------------------------------------

    def save(self) -> None:
        """Write state.safetensors and losses.json; a crash leaves the previous files whole."""
        tensors = {f"model.{name}": weight.contiguous() for name, weight in self.unet.state_dict().items()}
        tensors |= {f"ema.{name}": weight.contiguous() for name, weight in self.ema.items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"adam.{index}.{name}": value.contiguous() for name, value in state.items()}
        metadata = {"step": str(self.step), "config": json.dumps(asdict(self.config))}
        partial = self.out / "state.partial"
        save_file(tensors, partial, metadata)
        partial.replace(self.out / "state.safetensors")
        (self.out / "losses.json").write_text(json.dumps([round(loss, 5) for loss in self.losses]))

    def resume(self) -> bool:
        """Take up the saved state in `out`, if there is one."""
        path = self.out / "state.safetensors"
        if not path.exists():
            return False
        adam: dict[int, dict[str, Tensor]] = {}
        model: dict[str, Tensor] = {}
        with safe_open(path, "pt") as file:
            self.step = int(file.metadata()["step"])
            for key in file.keys():  # noqa: SIM118 - safe_open is not a mapping
                kind, name = key.split(".", 1)
                if kind == "model":
                    model[name] = file.get_tensor(key)
                elif kind == "ema":
                    self.ema[name] = file.get_tensor(key)
                else:
                    index, field_name = name.split(".")
                    adam.setdefault(int(index), {})[field_name] = file.get_tensor(key)
        self.unet.load_state_dict(model)
        state: dict[str, Any] = self.optimizer.state_dict()
        self.optimizer.load_state_dict({"state": _in_layout_of(self.unet, adam), "param_groups": state["param_groups"]})
        losses = self.out / "losses.json"
        self.losses = json.loads(losses.read_text())[: self.step] if losses.exists() else []
        return True


def _in_layout_of(unet: UNet2DConditionModel, adam: dict[int, dict[str, Tensor]]) -> dict[int, dict[str, Tensor]]:
    """Give each moment the strides of its weight: the fused optimiser walks both in memory order."""
    for index, weight in enumerate(unet.parameters()):
        for name in ("exp_avg", "exp_avg_sq"):
            adam[index][name] = torch.empty_like(weight).copy_(adam[index][name])
    return adam


def _take_over(unet: UNet2DConditionModel, folder: Path) -> None:
    shards = sorted(folder.glob("*.safetensors"))
    weights = {name: weight.float() for shard in shards for name, weight in load_file(shard).items()}
    try:
        start_from(unet, weights)
    except ValueError as error:
        raise TrainingError(f"The run cannot start from {folder}: {error}.") from error


def _zero_last_layer(unet: UNet2DConditionModel) -> None:
    """Start from predicting nothing: the mean picture, or the plain interpolation."""
    torch.nn.init.zeros_(unet.conv_out.weight)
    torch.nn.init.zeros_(unet.conv_out.bias)


def _sheet(latents: Tensor) -> Image.Image:
    count, _, height, width = latents.shape
    columns = math.ceil(math.sqrt(count))
    sheet = Image.new("RGB", (columns * width, math.ceil(count / columns) * height), (49, 51, 56))
    for index, picture in enumerate(latents):
        pixels = ((picture.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
        # Premultiplied colour can never exceed its alpha; a drawn one may, by a little.
        pixels = np.minimum(pixels, pixels[..., 3:])
        image = Image.fromarray(pixels, "RGBa").convert("RGBA")
        sheet.paste(image, (index % columns * width, index // columns * height), image)
    return sheet


def train(config_path: Path) -> float:
    """Run or resume one configuration; returns the seconds it took."""
    began = time.monotonic()
    trainer = Trainer(read_config(config_path))
    trainer.resume()
    trainer.run()
    return time.monotonic() - began
