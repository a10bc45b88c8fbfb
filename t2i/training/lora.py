"""LoRA fine-tuning (Hu 2021): a few small matrices beside the denoiser's layers learn what some pictures show.

It works on the model that draws: the same encoders, the same forward, the same sampler for its sheets. With 5 to 20
pictures of one thing, a prompt that names it by a rare word and pictures of its kind that shall stay as they are, it is
DreamBooth (Ruiz 2022).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
import torch
from diffusers import ModelMixin
from numpy.typing import NDArray
from peft import LoraConfig as PeftConfig
from peft import inject_adapter_in_model
from PIL import Image, ImageOps
from safetensors.torch import save_file
from torch import Tensor, nn

from t2i import checkpoints
from t2i.api import GenerationRequest
from t2i.diffusion.plan import Prediction
from t2i.diffusion.schedule import Schedule
from t2i.families.model import Model, Rows, Stage, TextStates
from t2i.imaging.sheet import make_sheet
from t2i.pipeline import Pipeline
from t2i.training import state
from t2i.training.captions import Captioned, read_folder
from t2i.training.config import LoraConfig, TrainingError
from t2i.training.learners import drop_captions, for_autograd
from t2i.training.tasks import MIN_T, to_timesteps

_FAMILIES = ("cascade", "sd", "sdxl")
_ADAPTER = "trained"
_REMEMBERED = 256
"""Captions whose states are kept."""
_DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}


class Trainable(Model, Protocol):
    """A model whose denoiser can be called with gradients."""

    denoiser: ModelMixin
    schedule: Schedule
    prediction: Prediction

    def forward(self, rows: Rows) -> Tensor:
        """The denoiser's answer [n, C, h, w], with gradients."""


class LoraLearner:
    """A LoRA on the denoiser of a checkpoint, learning pictures and their captions.

    The text encoders stay as they are: a rare word means enough to them for a denoiser to learn what it shows.
    """

    def __init__(self, config: LoraConfig, device: torch.device) -> None:
        """Raises DatasetError, CheckpointError or TrainingError."""
        self._config = config
        self._device = device
        loaded = checkpoints.load(
            config.checkpoint, str(device), dtype=_DTYPES[config.precision], offload=config.offload
        )
        if loaded.info.family not in _FAMILIES:
            raise TrainingError(
                f"LoRAs can be trained for SD 1.x, SD 2.x, SDXL and cascades, not for {loaded.info.name}."
            )
        self._model = cast(Trainable, loaded)
        self._stage = self._model.stages(_request("-", config.resolution))[0]
        shown = _read(self._model, self._stage, read_folder(Path(config.data), config.instance_prompt), config)
        prior = _read(self._model, self._stage, self._prior(), config) if config.prior_prompt else None
        self.examples = Pictures(shown, prior, config.seed)
        # Text encoders that wait in main memory are not fetched for every step.
        self._read_caption = lru_cache(_REMEMBERED)(lambda caption: self._model.encode(_request(caption, None))[0])
        self.network = self._model.denoiser
        torch.manual_seed(config.seed)
        _inject(self.network, config.rank, config.targets)

    def loss(self, batch: Any, generator: torch.Generator) -> Tensor:
        """That of the pictures, and weighted beside it that of the prior's."""
        latents, captions = batch
        clean = latents.to(self._device, non_blocking=True)
        text = self._encode(drop_captions(captions, self._config.caption_dropout, generator))
        noised = Noised.draw(self._model.schedule, clean, generator)
        guidance = torch.zeros(len(clean), device=self._device)
        condition = self._seen_beside(captions, generator)
        rows = Rows(self._stage.name, noised.noisy, noised.timesteps, text, guidance, condition)
        losses = noised.losses(self._model.forward(rows), self._model.prediction, self._config.min_snr)
        if self.examples.prior is None:
            return losses.mean()
        own, prior = losses.chunk(2)
        return own.mean() + self._config.prior_weight * prior.mean()

    def sample(self) -> Image.Image | None:
        """The prompts as the engine draws them."""
        prompts = self._config.sample_prompts
        if not prompts:
            return None
        return make_sheet([self.draw(prompt, self._config.seed) for prompt in prompts])

    def draw(self, prompt: str, seed: int) -> Image.Image:
        """One picture by the network as it is now."""
        request = _request(prompt, self._config.resolution, seed)
        return Pipeline(self._model).generate(request).images[0]

    def _encode(self, captions: list[str]) -> TextStates:
        """A row each, of equal length: shorter ones end in the empty prompt's states, as an encoder fills them up."""
        states = {caption: self._read_caption(caption) for caption in {*captions, ""}}
        length = max(row.tokens.shape[1] for row in states.values())
        rows = []
        for caption in captions:
            row, empty = states[caption], states[""]
            while row.tokens.shape[1] < length:
                mask = None if row.mask is None else torch.cat([row.mask, torch.zeros_like(empty.mask)], 1)  # type: ignore[arg-type]
                row = TextStates(torch.cat([row.tokens, empty.tokens], 1), mask, row.pooled)
            rows.append(row)
        return for_autograd(TextStates.concatenate(rows))

    def _seen_beside(self, captions: list[str], generator: torch.Generator) -> Tensor | None:
        """What the denoiser would see beside its latents, [n, c, H, W], were these prompts."""
        seeds = torch.randint(2**31, (len(captions),), generator=generator, device=self._device).tolist()
        starts = [
            self._model.begin(_request(caption, None), None, [seed])
            for caption, seed in zip(captions, seeds, strict=True)
        ]
        seen = [start.condition for start in starts if start is not None and start.condition is not None]
        return torch.cat(seen) if seen else None

    def _prior(self) -> list[Captioned]:
        """The prior's pictures; the model draws those that are missing before it learns anything."""
        config = self._config
        folder = Path(config.prior_data or Path(config.out) / "prior")
        folder.mkdir(parents=True, exist_ok=True)
        for index in range(len([*folder.iterdir()]), config.prior_images):
            self.draw(config.prior_prompt, config.seed + index).save(folder / f"drawn-{index:04d}.png")
        return [Captioned(entry.file, config.prior_prompt) for entry in read_folder(folder, config.prior_prompt)]


class Drawn(NamedTuple):
    """A batch: latents [n, C, h, w] and captions, the prior's in the second half if there is one."""

    latents: NDArray[np.float32]
    captions: list[str]


@dataclass(frozen=True, slots=True)
class Encoded:
    """Pictures as latents [n, versions, C, h, w], a version being the picture or its mirror image, and captions."""

    latents: NDArray[np.float32]
    captions: list[str]

    def example(self, seed: int, position: int) -> tuple[NDArray[np.float32], str]:
        """Every picture once an epoch, in an order of its own."""
        epoch, place = divmod(position, len(self.captions))
        index = np.random.default_rng((seed, epoch)).permutation(len(self.captions))[place]
        version = np.random.default_rng((seed, 1, position)).integers(self.latents.shape[1])
        return self.latents[index, version], self.captions[index]


class Pictures:
    """The stream of examples: `shown`, and as many of the `prior`."""

    def __init__(self, shown: Encoded, prior: Encoded | None, seed: int) -> None:
        self.shown, self.prior = shown, prior
        self._seed = seed

    def batch(self, position: int, size: int) -> Drawn:
        sources = [self.shown] if self.prior is None else [self.shown, self.prior]
        pairs = [source.example(self._seed, position + i) for source in sources for i in range(size)]
        return Drawn(np.stack([latents for latents, _ in pairs]), [caption for _, caption in pairs])


@dataclass(frozen=True, slots=True)
class Noised:
    """Clean latents, noise, and both together: noisy = alpha clean + sigma noise; alpha and sigma [n, 1, 1, 1]."""

    clean: Tensor
    noise: Tensor
    noisy: Tensor
    alpha: Tensor
    sigma: Tensor
    timesteps: Tensor

    @classmethod
    def draw(cls, schedule: Schedule, clean: Tensor, generator: torch.Generator) -> Noised:
        """Timesteps are uniform, on a flow logit-normal as the embedded networks learned them."""
        noise = torch.randn(clean.shape, generator=generator, device=clean.device)
        if schedule.flow:
            t = torch.sigmoid(torch.randn(len(clean), generator=generator, device=clean.device) + 0.5)
            alpha, sigma, timesteps = 1 - t, t, to_timesteps(t)
        else:
            k = torch.randint(schedule.num_timesteps, (len(clean),), generator=generator, device=clean.device)
            tables = (torch.as_tensor(table, dtype=torch.float32) for table in (schedule.alpha, schedule.sigma))
            alpha, sigma = (table.to(clean.device)[k] for table in tables)
            timesteps = k.float()
        alpha, sigma = alpha[:, None, None, None], sigma[:, None, None, None]
        return cls(clean, noise, alpha * clean + sigma * noise, alpha, sigma, timesteps)

    def losses(self, predicted: Tensor, prediction: Prediction, min_snr: float) -> Tensor:
        """[n], weighted by min(SNR, min_snr) in terms of the clean latents (Hang 2023, §3.4); where these themselves
        are predicted, by the velocity's weight, bounded as in training from scratch."""
        if prediction == "sample":
            target, weight = self.clean, 1 / self.sigma.clamp(min=MIN_T) ** 2
        else:
            snr = (self.alpha / self.sigma) ** 2
            bounded = snr.clamp(max=min_snr) if min_snr else snr
            if prediction == "epsilon":
                target, weight = self.noise, bounded / snr if min_snr else torch.ones_like(snr)
            else:
                target = self.alpha * self.noise - self.sigma * self.clean
                weight = bounded / (snr + 1) if min_snr else torch.ones_like(snr)
        return (weight * (predicted - target).square()).mean((1, 2, 3))


def export(config: LoraConfig) -> Path:
    """Write the averaged LoRA of a run as diffusers saves one, ready to be named in a request."""
    trained = state.averaged(Path(config.out), config.task)
    tensors = {f"unet.{name.replace(f'.{_ADAPTER}.', '.')}": weight.contiguous() for name, weight in trained.items()}
    path = Path(config.out) / f"{config.name}.safetensors"
    save_file(tensors, path, {"format": "pt"})
    return path


def _inject(network: nn.Module, rank: int, targets: list[str]) -> None:
    network.requires_grad_(False)
    # With alpha = rank nothing is scaled, so the file needs no alpha.
    config = PeftConfig(r=rank, lora_alpha=rank, target_modules=targets)
    try:
        inject_adapter_in_model(config, network, _ADAPTER)
    except ValueError as error:
        raise TrainingError(f"The network has no layers named {', '.join(targets)}.") from error
    for weight in network.parameters():
        if weight.requires_grad:
            weight.data = weight.data.float()


@torch.inference_mode()
def _read(model: Trainable, stage: Stage, entries: list[Captioned], config: LoraConfig) -> Encoded:
    """The pictures as the denoiser sees them, on the CPU."""
    latents = []
    for entry in entries:
        picture = _fit(entry.open(), config.resolution, transparent=model.info.family == "cascade")
        versions = (picture, ImageOps.mirror(picture)) if config.flip else (picture,)
        latents.append(np.stack([model.start(version, None, stage).latents[0].cpu().numpy() for version in versions]))
    return Encoded(np.stack(latents), [entry.caption for entry in entries])


def _fit(picture: Image.Image, side: int, *, transparent: bool) -> Image.Image:
    """A square of the picture's middle, or all of it on a transparent square."""
    if not transparent:
        return ImageOps.fit(picture, (side, side), Image.Resampling.LANCZOS)
    return ImageOps.pad(picture, (side, side), Image.Resampling.LANCZOS, color=(0, 0, 0, 0))


def _request(prompt: str, side: int | None, seed: int | None = None) -> GenerationRequest:
    return GenerationRequest(prompt=prompt, width=side, height=side, seed=seed)
