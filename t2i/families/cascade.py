"""The embedded family: text -> 64 px picture -> 256 px picture, both drawn by diffusion."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from t2i.api import CheckpointError, CheckpointInfo, GenerationRequest, InvalidRequest
from t2i.checkpoints.lora import Loras
from t2i.diffusion.guidance import Guidance, static_threshold
from t2i.diffusion.plan import SAMPLER_NAMES, Prediction, build_plan
from t2i.diffusion.schedule import flow_schedule
from t2i.families.autoencoder import mask_to_latents
from t2i.families.circular import circular
from t2i.families.collage import Box, Layer, Pixels, bent, compose
from t2i.families.cpu import RowShares, quicken
from t2i.families.model import Rows, Stage, Start, TextStates
from t2i.families.networks import CHANNELS, BaseDenoiser, Upsampler
from t2i.families.planning import guidance_for, plan_for, strength_for
from t2i.families.references import References
from t2i.families.text import TextEncoder

CLASS_NAME = "CascadePipeline"
BASE, UPSAMPLER, REFERENCES = "base", "upsampler", "references"
FAINT = 10
"""Alpha (of 255) below which a pixel is the networks' noise on an empty ground."""


class Cascade:
    """A loaded cascade checkpoint. Latents are premultiplied RGBA in -1..1, float32.

    `denoiser` is the base network; both networks predict the clean picture.
    """

    prediction: Prediction = "sample"

    def __init__(
        self,
        folder: Path,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        loras_dir: Path | None = None,
    ) -> None:
        index = read_index(folder)
        _verify(folder, index)
        self.info = describe(folder)
        self.device = device
        self._dtype = self.dtype = dtype
        self.schedule = flow_schedule(index["num_timesteps"])
        self._upsampler_steps: int = index["upsampler_steps"]
        self._redraw: float = index.get("redraw", 1.0)
        self._text_encoder = TextEncoder(folder / "text_encoder", device)
        self.denoiser = _load_unet(folder / BASE, device, dtype)
        self._base = BaseDenoiser(self.denoiser)
        self._upsampler = Upsampler(_load_unet(folder / UPSAMPLER, device, dtype))
        self._references = (
            References.load(folder / REFERENCES, self._text_encoder.sentences)
            if (folder / REFERENCES).is_dir()
            else None
        )
        self._shares = RowShares() if device.type == "cpu" else None
        self.loras = Loras("cascade", {BASE: self.denoiser}, loras_dir)

    def modules(self) -> list[nn.Module]:
        return [self.denoiser, self._upsampler.unet, self._text_encoder.model]

    @contextmanager
    def precise(self) -> Iterator[None]:
        for unet in (self._base.unet, self._upsampler.unet):
            unet.float()
        self.dtype = torch.float32
        try:
            yield
        finally:
            for unet in (self._base.unet, self._upsampler.unet):
                torch.nn.Module.to(unet, self._dtype)
            self.dtype = self._dtype

    def encode(self, request: GenerationRequest) -> tuple[TextStates, TextStates]:
        self.loras.use(request.loras)
        states = self._text_encoder.encode([request.prompt, request.negative_prompt or ""])
        return states[:1], states[1:]

    def stages(self, request: GenerationRequest) -> list[Stage]:
        """The base stage, and the upsampler where the request asks for its size. Raises InvalidRequest."""
        size = request.width or request.height or self.info.default_size
        if size not in self.info.sizes or (request.height or size) != size:
            sizes = " or ".join(f"{side}x{side}" for side in self.info.sizes)
            raise InvalidRequest("width", f"{self.info.name} draws pictures of {sizes} pixels.")
        small, large = self._base.size, self._upsampler.size
        by_itself = self._redraw if self._references and self._references.know(request.prompt) else 1.0
        plan = plan_for(request, self.info, self.schedule, self.prediction, by_itself=by_itself)
        stages = [Stage(BASE, plan, (CHANNELS, small, small), guidance_for(request, self.info), static_threshold)]
        if size > small:
            plan = build_plan(self.schedule, "flow_euler", self._upsampler_steps)
            stages.append(Stage(UPSAMPLER, plan, (CHANNELS, large, large), Guidance(1.0), static_threshold))
        return stages

    def start(self, picture: Image.Image, mask: Image.Image | None, stage: Stage, *, tile: bool = False) -> Start:
        """The picture as the base network draws it, small and premultiplied."""
        side = stage.shape[-1]
        small = np.asarray(picture.convert("RGBA").convert("RGBa").resize((side, side), Image.Resampling.LANCZOS))
        latents = _to_latents(small)[None].to(self.device)
        kept = None if mask is None else mask_to_latents(mask, stage.shape).to(self.device)
        if not self._base.sees_collages:
            return Start(latents, kept)
        # The network keeps what it sees, so it sees nothing where it is to draw anew.
        return Start(
            latents, kept, latents if kept is None else torch.lerp(latents, torch.full_like(latents, -1), kept)
        )

    def begin(self, request: GenerationRequest, latents: Tensor | None, seeds: list[int]) -> Start | None:
        """The network sees what it starts from all the way: a collage of what the prompt names or, for a variation, the
        picture turned and scaled a little, as every seed has it."""
        if not self._base.sees_collages:
            return None if latents is None else Start(latents)
        if latents is not None:
            if strength_for(request) > 0:
                pictures = _to_pixels(latents.expand(len(seeds), -1, -1, -1))
                turned = [_turned(one, seed) for one, seed in zip(pictures, seeds, strict=True)]
                latents = torch.stack([_to_latents(one) for one in turned]).to(self.device)
            return Start(latents, condition=latents)
        small = self._base.size
        made = [self.collage(request.prompt, seed) for seed in seeds]
        collages = torch.stack([torch.full((CHANNELS, small, small), -1.0) if c is None else c for c in made])
        # What a tile shows goes on beyond its edges, so they go through its middle.
        collages = collages.roll((small // 2, small // 2), (2, 3)) if request.tile else collages
        collages = collages.to(self.device)
        return Start(collages, condition=collages)

    def collage(self, prompt: str, seed: int) -> Tensor | None:
        """Latents [4, h, w] of what a prompt names, by the checkpoint's reference pictures; None when it has none."""
        pixels = self._references.collage(prompt, seed) if self._references else None
        return None if pixels is None else _to_latents(pixels)

    @torch.inference_mode()
    def predict(self, rows: Rows) -> Tensor:
        """The clean latents [n, 4, h, w] the network sees; an upsampler's condition is what the base network drew."""
        self.loras.use(rows.loras)
        network = self._base if rows.stage == BASE else self._upsampler
        with circular(network.unet, rows.tile):
            return self.forward(rows) if self._shares is None else self._shares(self.forward, rows)

    def forward(self, rows: Rows) -> Tensor:
        """What the networks say as they are now, with gradients where they have any."""
        text = rows.text.to(self.device, self.dtype)
        if rows.stage == BASE:
            return self._base(rows.latents, rows.timesteps, text, rows.condition)
        if rows.condition is None:
            raise ValueError("The upsampler needs the small picture.")
        return self._upsampler(rows.latents, rows.timesteps, text, rows.condition, tile=rows.tile)

    def decode(self, latents: Tensor, *, tile: bool = False) -> list[Image.Image]:
        """RGBA pictures from clean latents [n, 4, h, w], which are pixels: what tiles already does."""
        return [Image.fromarray(pixels, "RGBa").convert("RGBA") for pixels in _to_pixels(latents)]

    def preview(self, latents: Tensor) -> list[Image.Image]:
        return self.decode(latents)


def describe(folder: Path) -> CheckpointInfo:
    """What model_index.json says; no weights are read. Raises CheckpointError."""
    index = read_index(folder)
    try:
        defaults = index["defaults"]
        return CheckpointInfo(
            name=index["name"],
            family="cascade",
            description=index["description"],
            licence=index["licence"],
            sha256=hashlib.sha256((folder / "model_index.json").read_bytes()).hexdigest(),
            parameters=index["parameters"],
            sizes=tuple(index["sizes"]),
            default_size=defaults["size"],
            steps=defaults["steps"],
            sampler=defaults["sampler"],
            guidance_scale=defaults["guidance_scale"],
            samplers=SAMPLER_NAMES,
            features=("negative_prompt", "image", "mask", "tile", "loras"),
        )
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"The model_index.json of {folder.name} lacks {error}.") from error


def save(
    folder: Path, index: dict[str, Any], base: UNet2DConditionModel, upsampler: UNet2DConditionModel, text_encoder: Path
) -> None:
    """Write a cascade checkpoint: half-precision networks, the text encoder's files, and an index with every hash, also
    of references that are there already."""
    for name, unet in ((BASE, base), (UPSAMPLER, upsampler)):
        torch.nn.Module.to(unet, torch.float16).save_pretrained(folder / name, max_shard_size="15MB")
    (folder / "text_encoder").mkdir(exist_ok=True)
    for file in ("config.json", "tokenizer.json", "model.safetensors"):
        (folder / "text_encoder" / file).write_bytes((text_encoder / file).read_bytes())
    parameters = sum(weight.numel() for unet in (base, upsampler) for weight in unet.parameters())
    parts = [folder / part for part in (BASE, UPSAMPLER, "text_encoder", REFERENCES)]
    files = sorted(file for part in parts if part.is_dir() for file in part.iterdir())
    index = {
        "_class_name": CLASS_NAME,
        **index,
        "parameters": parameters,
        "sizes": [BaseDenoiser(base).size, Upsampler(upsampler).size],
        "files": {str(file.relative_to(folder)): _sha256(file) for file in files},
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")


def read_index(folder: Path) -> dict[str, Any]:
    try:
        index: dict[str, Any] = json.loads((folder / "model_index.json").read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder.name} has no readable model_index.json.") from error
    if index.get("_class_name") != CLASS_NAME:
        raise CheckpointError(f"{folder.name} is a {index.get('_class_name')}; only the cascade family can be loaded.")
    return index


def _to_latents(pixels: Pixels) -> Tensor:
    """Premultiplied RGBA [h, w, 4] uint8 as latents [4, h, w]."""
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 127.5 - 1


def _turned(pixels: Pixels, seed: int) -> Pixels:
    """A picture bent as the seed has it, a little smaller so that its corners stay inside."""
    layer = Layer(bent(pixels, np.random.default_rng(seed)), box=Box(0.04, 0.04, 0.92))
    return compose([layer], len(pixels))


def _to_pixels(latents: Tensor) -> Pixels:
    """The inverse for several, [n, h, w, 4]."""
    pixels = ((latents.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    # A drawn colour may exceed its alpha by a little; a premultiplied one never does.
    pixels = torch.minimum(pixels, pixels[:, 3:])
    pixels = torch.where(pixels[:, 3:] < FAINT, 0, pixels)
    return pixels.permute(0, 2, 3, 1).contiguous().cpu().numpy()


def _verify(folder: Path, index: dict[str, Any]) -> None:
    for name, digest in index.get("files", {}).items():
        file = folder / name
        if not file.is_file():
            raise CheckpointError(f"{folder.name} is incomplete: {name} is missing.")
        if _sha256(file) != digest:
            raise CheckpointError(f"{folder.name} is damaged: {name} is not the file that was saved.")


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _load_unet(folder: Path, device: torch.device, dtype: torch.dtype) -> UNet2DConditionModel:
    """A network from diffusers' own layout: config.json and one or several safetensors shards."""
    try:
        with torch.device("meta"):
            unet = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(folder, local_files_only=True))
        weights = {
            name: w.to(dtype) for shard in sorted(folder.glob("*.safetensors")) for name, w in load_file(shard).items()
        }
        unet.load_state_dict(weights, assign=True)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"The weights in {folder.parent.name}/{folder.name} cannot be read.") from error
    unet.eval().requires_grad_(False)
    if device.type == "cpu":
        quicken(unet)
    return unet.to(device, memory_format=torch.channels_last)
