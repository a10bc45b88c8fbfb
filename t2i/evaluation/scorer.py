"""The judge: a small convolutional network that puts pictures where their captions lie in the text encoder's space.

It learns from art that the checkpoint under evaluation never saw, in a few minutes on a CPU, and is kept by its recipe.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from t2i.evaluation.scenes import Asked, Scene, Scenes
from t2i.families.collage import Pixels
from t2i.families.text import TextEncoder
from t2i.training.data import Art

Say = Callable[[str], None]
GROUNDS = (1.0, 0.5)
"""Grey levels behind a picture, 0..1: it is judged on each, and the answers are averaged."""
SEEN_SIDE = 32
"""Pixels at which the network says what a picture shows: four times as many can be learned from in the same time."""
_AT_ONCE, _READ_AT_ONCE = 64, 256


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a scorer is trained; `version` changes with what these numbers do not say."""

    steps: int = 4000
    batch: int = 64
    channels: tuple[int, ...] = (48, 96, 192, 384)
    learning_rate: float = 2e-3
    composed: int = 4000
    """Scenes put together from the art beside the art itself."""
    seed: int = 0
    version: int = 1


TINY = Recipe(steps=150, batch=16, channels=(8, 16, 32), learning_rate=1e-2, composed=40)
"""For a handful of generated pictures."""


class Block(nn.Module):
    """Two convolutions and a shortcut (He 2015), halving the side."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(inputs, outputs, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = F.relu(self.body(x) + self.shortcut(x))
        return result


class Network(nn.Module):
    """Pictures [n, 3, h, w] in -1..1 to vectors [n, dim] of unit length."""

    def __init__(self, channels: Sequence[int], dim: int) -> None:
        super().__init__()
        first = channels[0] // 2
        self.stem = nn.Sequential(
            nn.Conv2d(3, first, 3, 2, 1, bias=False), nn.BatchNorm2d(first), nn.ReLU(inplace=True)
        )
        self.blocks = nn.ModuleList(
            Block(inputs, outputs) for inputs, outputs in zip((first, *channels), channels, strict=False)
        )
        self.head = nn.Linear(channels[-1], dim)
        self.register_buffer("centre", torch.zeros(dim))
        self.centre: Tensor
        self.log_scale = nn.Parameter(torch.tensor(math.log(30.0)))

    def maps(self, pictures: Tensor) -> list[Tensor]:
        """What each block says, [n, channels, h, w] from fine to coarse."""
        x = self.stem(pictures)
        found = []
        for block in self.blocks:
            x = block(x)
            found.append(x)
        return found

    def forward(self, pictures: Tensor) -> Tensor:
        return F.normalize(self.head(self.maps(pictures)[-1].mean((2, 3))), dim=-1)


class Scorer:
    """A trained network with the text encoder that it was trained against."""

    def __init__(self, network: Network, text: TextEncoder) -> None:
        self._network = network.eval().requires_grad_(False)
        self._text = text

    def read(self, captions: Sequence[str]) -> Tensor:
        """Unit vectors [n, dim] of captions."""
        return F.normalize(_read(self._text, captions) - self._network.centre, dim=-1)

    def see(self, pictures: Sequence[Pixels]) -> Tensor:
        """Unit vectors [n, dim] of premultiplied RGBA pictures."""
        return F.normalize(self._on_each_ground(pictures, lambda x: self._network(_shrunk(x))), dim=-1)

    def features(self, pictures: Sequence[Pixels]) -> Tensor:
        """Means of the last but one block's maps, [n, channels]: how a picture looks more than what it is."""
        return self._on_each_ground(pictures, lambda x: self._network.maps(_shrunk(x))[-2].mean((2, 3)))

    def layout(self, pictures: Sequence[Pixels]) -> Tensor:
        """The last but one block's maps on a grid of 4 x 4, flattened, [n, 16 channels]: what is where."""
        return self._on_each_ground(pictures, lambda x: F.adaptive_avg_pool2d(self._network.maps(x)[-2], 4).flatten(1))

    @torch.inference_mode()
    def _on_each_ground(self, pictures: Sequence[Pixels], look: Callable[[Tensor], Tensor]) -> Tensor:
        parts = []
        for first in range(0, len(pictures), _AT_ONCE):
            pixels = stack(pictures[first : first + _AT_ONCE])
            parts.append(torch.stack([look(_behind(pixels, torch.tensor(ground))) for ground in GROUNDS]).mean(0))
        return torch.cat(parts)


def get_scorer(
    arts: Sequence[Art], text: TextEncoder, folder: Path, recipe: Recipe | None = None, say: Say = lambda _: None
) -> Scorer:
    """The scorer of this art and recipe: read from `folder`, or trained and kept there."""
    recipe = recipe or Recipe()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        network = Network(recipe.channels, text.dim)
    file = folder / f"{_digest(arts, text, recipe)}.safetensors"
    if file.is_file():
        network.load_state_dict(load_file(file))
        return Scorer(network, text)
    _train(network, arts, text, recipe, say)
    folder.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    save_file({name: weight.contiguous() for name, weight in network.state_dict().items()}, partial)
    partial.replace(file)
    return Scorer(network, text)


def _digest(arts: Sequence[Art], text: TextEncoder, recipe: Recipe) -> str:
    digest = hashlib.sha256(json.dumps(asdict(recipe)).encode())
    for art in arts:
        digest.update(art.label.encode() + art.pixels.tobytes())
    for weight in text.model.state_dict().values():
        digest.update(np.ascontiguousarray(weight.cpu().numpy()).tobytes())
    return digest.hexdigest()[:16]


def stack(pictures: Sequence[Pixels]) -> Tensor:
    """Premultiplied pixels as [n, 4, h, w] in 0..1."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255


def _shrunk(pictures: Tensor) -> Tensor:
    return F.interpolate(pictures, (SEEN_SIDE, SEEN_SIDE), mode="area")


def _behind(pixels: Tensor, ground: Tensor) -> Tensor:
    """RGB in -1..1 of premultiplied RGBA in 0..1 over a ground in 0..1."""
    return (pixels[:, :3] + ground * (1 - pixels[:, 3:])) * 2 - 1


def _read(text: TextEncoder, captions: Sequence[str]) -> Tensor:
    vectors = []
    for first in range(0, len(captions), _READ_AT_ONCE):
        pooled = text.encode(list(captions[first : first + _READ_AT_ONCE])).pooled
        assert pooled is not None
        vectors.append(pooled)
    return torch.cat(vectors).clone()


# --- training ---------------------------------------------------------------------------------------------------------


def compose(arts: Sequence[Art], count: int, seed: int) -> list[Scene]:
    """Scenes of every kind; half of them one thing in another colour."""
    scenes = Scenes(arts, seed)
    kinds = (scenes.wearing, scenes.beside, scenes.above, scenes.several)
    return [scenes.tinted() if index % 2 else kinds[index // 2 % len(kinds)]() for index in range(count)]


def _train(network: Network, arts: Sequence[Art], text: TextEncoder, recipe: Recipe, say: Say) -> None:
    """Each picture's vector is to be nearer to its own caption than to any other: the loss of CLIP (Radford 2021), with
    every label among the negatives."""
    random = torch.Generator().manual_seed(recipe.seed)
    scenes = [Scene(art.pixels, Asked(art.label, (art.label,))) for art in arts]
    scenes += compose(arts, recipe.composed, recipe.seed)
    pixels = _shrunk(stack([scene.pixels for scene in scenes]))
    captions = sorted({scene.asked.prompt for scene in scenes})
    index = {caption: number for number, caption in enumerate(captions)}
    own = torch.tensor([index[scene.asked.prompt] for scene in scenes])
    labels = torch.tensor(sorted({index[art.label] for art in arts}))
    vectors = _read(text, captions)
    # Short captions all lie to one side; their differences are what tells them apart.
    network.centre.copy_(vectors[labels].mean(0))
    vectors = F.normalize(vectors - network.centre, dim=-1)
    network.train().to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(network.parameters(), recipe.learning_rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, recipe.learning_rate, total_steps=recipe.steps, pct_start=0.15
    )
    weights = torch.ones(len(scenes))
    weights[: len(arts)] *= 0.7 / len(arts)
    weights[len(arts) :] *= 0.3 / max(1, len(scenes) - len(arts))
    for step in range(recipe.steps):
        chosen = torch.multinomial(weights, recipe.batch, replacement=True, generator=random)
        wanted = own[chosen]
        others = torch.unique(torch.cat([labels, wanted]))
        pictures = augment(pixels[chosen], random).contiguous(memory_format=torch.channels_last)
        logits = network(pictures) @ vectors[others].T * network.log_scale.exp()
        loss = F.cross_entropy(logits, torch.searchsorted(others, wanted), label_smoothing=0.05)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        if (step + 1) % (recipe.steps // 10) == 0:
            say(f"scorer: step {step + 1} of {recipe.steps}, loss {loss.item():.2f}")
    network.eval()


def augment(pixels: Tensor, random: torch.Generator) -> Tensor:
    """Premultiplied pictures in 0..1 to RGB in -1..1, each turned, scaled, moved, mirrored, softened, lit and put on a
    ground of its own."""
    count = len(pixels)

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(count, generator=random) * (high - low) + low

    angle, zoom = uniform(-0.15, 0.15), 1 / uniform(0.75, 1.1)
    mirror = (uniform(0, 1) < 0.5).float() * 2 - 1
    rows = (
        torch.stack([zoom * angle.cos() * mirror, -zoom * angle.sin(), uniform(-0.1, 0.1)], 1),
        torch.stack([zoom * angle.sin() * mirror, zoom * angle.cos(), uniform(-0.1, 0.1)], 1),
    )
    grid = F.affine_grid(torch.stack(rows, 1), list(pixels.shape), align_corners=False)
    moved = F.grid_sample(pixels, grid, align_corners=False)
    side = pixels.shape[-1]
    soft = F.interpolate(F.avg_pool2d(moved, 2), (side, side), mode="bilinear", align_corners=False)
    moved = torch.where((uniform(0, 1) < 0.3)[:, None, None, None], soft, moved)
    colour = torch.rand(count, 3, 1, 1, generator=random)
    grey = uniform(0.3, 1)[:, None, None, None].expand(-1, 3, 1, 1)
    ground = torch.where((uniform(0, 1) < 0.6)[:, None, None, None], grey, colour)
    light, contrast = uniform(-0.15, 0.15)[:, None, None, None], uniform(0.8, 1.2)[:, None, None, None]
    return _behind(moved, ground) * contrast + light
