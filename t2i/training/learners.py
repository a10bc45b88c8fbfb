"""What a run trains: a network, the examples it learns from, and their loss. The loop knows no more of it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Protocol

import torch
from diffusers import ModelMixin, UNet2DConditionModel
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from t2i import checkpoints
from t2i.families import cascade
from t2i.families.model import TextStates
from t2i.families.networks import BaseDenoiser, build_network, start_from
from t2i.families.text import TextEncoder
from t2i.imaging.sheet import make_sheet
from t2i.training.config import Config, TrainingError
from t2i.training.data import Composer, load_folder
from t2i.training.tasks import TASKS, add_noise, euler, to_timesteps, velocity_loss

DISTIL = "distil"
NETWORK_TASKS = (*TASKS, DISTIL)


class Examples(Protocol):
    """A stream of examples, each a function of its number."""

    def batch(self, position: int, size: int) -> Any:
        """`size` examples from number `position` on: a tuple of arrays and lists. Another process may call this."""


class Learner(Protocol):
    """A network on its device and what it learns."""

    @property
    def network(self) -> ModelMixin:
        """Its parameters that require gradients are trained."""

    @property
    def examples(self) -> Examples: ...

    def loss(self, batch: Any, generator: torch.Generator) -> Tensor:
        """Scalar loss of a batch, whose arrays have become tensors on the CPU. `generator` is on the device."""

    def sample(self) -> Image.Image | None:
        """A sheet of what the network draws by now, the same prompts and noise every time; None for no sheet."""


class NetworkLearner:
    """One of the cascade's networks, learning its task from composed pictures."""

    def __init__(self, config: Config, device: torch.device) -> None:
        """Raises DatasetError or TrainingError."""
        self.config = config
        self.device = device
        self.task = TASKS[_task_of(config)]
        data = Path(config.data)
        arts = load_folder(data, config.resolution)
        self.examples = Composer(arts, config.seed, config.group_weights, collages=self.task.collages)
        self.encoder = TextEncoder(text_encoder_of(config), device)
        self.network = new_network(config, self.encoder.dim).to(device, memory_format=torch.channels_last)

    def loss(self, batch: Any, generator: torch.Generator) -> Tensor:
        pixels, captions, collages = batch
        text = self._encode(drop_captions(captions, self.config.caption_dropout, generator))
        return self.task.loss(self.network, self._moved(pixels), self._moved(collages), text, generator)

    def sample(self) -> Image.Image | None:
        """In three blocks: the first pictures of the data, their collages, and what the network makes of them."""
        count = len(self.config.sample_prompts)
        if not count:
            return None
        batch = self.examples.batch(0, count)
        pixels, collages = (self._moved(torch.from_numpy(part)) for part in (batch.pixels, batch.collages))
        drawn = self._draw(pixels, collages, batch.captions, torch.Generator(self.device).manual_seed(self.config.seed))
        return make_sheet(_pictures(torch.cat([pixels, collages, drawn])))

    def _draw(self, pixels: Tensor, collages: Tensor, captions: list[str], generator: torch.Generator) -> Tensor:
        text, empty = self.encoder.encode(captions), self.encoder.encode([""] * len(captions))
        return self.task.sample(self.network, pixels, collages, text, empty, generator)

    def _encode(self, captions: list[str]) -> TextStates:
        return for_autograd(self.encoder.encode(captions))

    def _moved(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device, non_blocking=True)


class DistilLearner(NetworkLearner):
    """A base network that draws in one forward what its teacher draws in the two of guidance (Meng 2022, stage one,
    for one fixed guidance)."""

    def __init__(self, config: Config, device: torch.device) -> None:
        super().__init__(config, device)
        if not config.init:
            raise TrainingError("A network is distilled from another: name its folder as 'init'.")
        self._teacher = BaseDenoiser(copy.deepcopy(self.network).eval().requires_grad_(False))
        self._student = BaseDenoiser(self.network)

    def loss(self, batch: Any, generator: torch.Generator) -> Tensor:
        pixels, captions, collages = batch
        text = self._encode(drop_captions(captions, self.config.caption_dropout, generator))
        empty = self._encode([""] * len(captions))
        pixels, collages = self._moved(pixels), self._moved(collages)
        noisy, t = add_noise(pixels, 0.5, generator)
        timesteps = to_timesteps(t)
        with torch.no_grad():
            unguided = self._teacher(noisy, timesteps, empty, collages)
            guided = unguided + self.config.guidance * (self._teacher(noisy, timesteps, text, collages) - unguided)
        return velocity_loss(self._student(noisy, timesteps, text, collages), guided.clamp(-1, 1), t)

    def _draw(self, pixels: Tensor, collages: Tensor, captions: list[str], generator: torch.Generator) -> Tensor:
        text = self.encoder.encode(captions)
        noise = torch.randn(pixels.shape, generator=generator, device=self.device)
        return euler(lambda latents, timesteps: self._student(latents, timesteps, text, collages), noise, steps=12)


def new_network(config: Config, text_dim: int) -> UNet2DConditionModel:
    """The network of a run before its first step. Raises TrainingError where `init` does not fit it."""
    torch.manual_seed(config.seed)
    unet = build_network(
        config.network,
        resolution=config.resolution,
        text_dim=text_dim,
        condition_channels=TASKS[_task_of(config)].condition_channels(config.network.patch),
    )
    if config.init:
        _take_over(unet, init_folder(config))
    else:
        # Start from predicting nothing: the mean picture, or the plain interpolation.
        nn.init.zeros_(unet.conv_out.weight)
        nn.init.zeros_(unet.conv_out.bias)
    return unet


def init_folder(config: Config) -> Path:
    """The folder of the network that `init` names: one of diffusers' own, or that of the task in a checkpoint."""
    folder = Path(config.init)
    if (folder / "config.json").is_file():
        return folder
    return checkpoints.resolve(config.init) / _task_of(config)


def text_encoder_of(config: Config) -> Path:
    """The text encoder's folder: that of the data, or else of the embedded checkpoint, which is the same one."""
    own = Path(config.data) / "text_encoder"
    return own if own.is_dir() else checkpoints.resolve(checkpoints.EMBEDDED) / "text_encoder"


def drop_captions(captions: list[str], share: float, generator: torch.Generator) -> list[str]:
    """A share of them emptied, from which guidance learns what no caption says."""
    dropped = torch.rand(len(captions), generator=generator, device=generator.device) < share
    return ["" if drop else caption for drop, caption in zip(dropped.tolist(), captions, strict=True)]


def for_autograd(text: TextStates) -> TextStates:
    """Inference tensors cannot take part in autograd; copies can."""
    mask = None if text.mask is None else text.mask.clone()
    return TextStates(text.tokens.clone(), mask, None if text.pooled is None else text.pooled.clone())


def _task_of(config: Config) -> str:
    return cascade.BASE if config.task == DISTIL else config.task


def _take_over(unet: UNet2DConditionModel, folder: Path) -> None:
    shards = sorted(folder.glob("*.safetensors"))
    weights = {name: weight.float() for shard in shards for name, weight in load_file(shard).items()}
    try:
        start_from(unet, weights)
    except (ValueError, RuntimeError) as error:
        raise TrainingError(f"The run cannot start from {folder}: it holds another kind of network.") from error


def _pictures(latents: Tensor) -> list[Image.Image]:
    pixels = ((latents.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    # Premultiplied colour can never exceed its alpha; a drawn one may, by a little.
    pixels = torch.minimum(pixels, pixels[:, 3:]).permute(0, 2, 3, 1).contiguous().cpu()
    return [Image.fromarray(picture, "RGBa").convert("RGBA") for picture in pixels.numpy()]
