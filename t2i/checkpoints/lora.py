"""The LoRAs of one loaded model: found by name, several at once with weights, added to its layers by peft."""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import cast

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import nn

from t2i.api import InvalidRequest, Lora
from t2i.checkpoints.lora_file import LoraWeights, read

MAX_LOADED = 8
"""LoRAs held in memory beside the active ones; the least recently used make room."""
_NAMES_SHOWN = 8


class Loras:
    """The LoRAs of one loaded model.

    `parts` are the networks that a LoRA may touch, by their names in LoRA files: the denoiser ("unet", "transformer",
    or the cascade's "base") and the text encoders. Weights follow the device and dtype of the layers they are added
    to. Layers are replaced while a LoRA is loaded, so nothing else may keep references to them; when none is, every
    layer is the one that was there before. All of it works inside and outside `torch.inference_mode`.
    """

    def __init__(self, family: str, parts: dict[str, nn.Module], folder: Path | None) -> None:
        self._family = family
        self._parts = parts
        self._folder = folder
        self._added: dict[str, Path] = {}
        self._adapters: dict[str, str] = {}  # name -> peft's name for it, least recently used first
        self._adapter_names = (f"adapter{number}" for number in itertools.count())
        self._active: tuple[Lora, ...] = ()
        self._layers: list[tuple[nn.Module, str, LoraLayer]] = []

    def available(self) -> dict[str, Path]:
        """Names and files: every *.safetensors of the folder, and what was added."""
        folder = [] if self._folder is None else sorted(self._folder.glob("*.safetensors"))
        return {path.stem: path for path in folder} | self._added

    @property
    def loaded(self) -> list[str]:
        """Names, least recently used first."""
        return list(self._adapters)

    def add(self, name: str, path: Path) -> None:
        """Load a file from anywhere and know it by `name` from now on. Raises CheckpointError; then nothing changed."""
        layers = read(path, self._family, self._parts)
        if name in self._adapters:
            self.unload(name)
        self._insert(name, layers)
        self._added[name] = path
        self._make_room()

    def load(self, name: str) -> None:
        """Have a LoRA in memory; it acts once `use` names it.

        Raises InvalidRequest for a name that is not available and CheckpointError for a file that cannot be used here;
        the model is then as it was.
        """
        self._load(name)
        self._make_room()

    def unload(self, name: str) -> None:
        """Forget a LoRA's weights and stop using it. Raises InvalidRequest if it is not loaded."""
        if name not in self._adapters:
            raise InvalidRequest("loras", f"The LoRA {name!r} is not loaded.")
        self._activate(tuple(lora for lora in self._active if lora.name != name))
        self._remove(self._adapters.pop(name))

    def use(self, loras: tuple[Lora, ...]) -> None:
        """Make exactly these act, in any order, loading what is missing; nothing happens where nothing changes.

        Raises InvalidRequest for a name that is not available and CheckpointError for a file that cannot be used here;
        what acted before then still does.
        """
        # Sums of floats depend on their order: the same set gives the same bits however it was written.
        loras = tuple(sorted(loras, key=lambda lora: lora.name))
        if loras == self._active:
            return
        try:
            for lora in self._active + loras:  # what acted until now counts as used before what acts next
                self._load(lora.name)
            self._activate(loras)
        finally:
            self._make_room()

    def _load(self, name: str) -> None:
        if name in self._adapters:
            self._adapters[name] = self._adapters.pop(name)  # now the most recently used
            return
        available = self.available()
        if name not in available:
            raise InvalidRequest("loras", f"There is no LoRA named {name!r}; {_listed(available)}.")
        self._insert(name, read(available[name], self._family, self._parts))

    def _insert(self, name: str, layers: dict[str, dict[str, LoraWeights]]) -> None:
        adapter = next(self._adapter_names)
        try:
            for part, weights in layers.items():
                _inject(self._parts[part], adapter, weights)
        except Exception:
            self._settle()
            self._remove(adapter)
            raise
        self._settle()
        self._adapters[name] = adapter

    def _settle(self) -> None:
        """Find the layers with LoRAs; have those act that did before, as peft activates the newest."""
        modules = ((part, path, module) for part in self._parts.values() for path, module in part.named_modules())
        self._layers = [(part, path, module) for part, path, module in modules if isinstance(module, LoraLayer)]
        self._activate(self._active)

    def _activate(self, loras: tuple[Lora, ...]) -> None:
        active = {self._adapters[lora.name]: lora.weight for lora in loras}
        for _, _, layer in self._layers:
            layer.set_adapter(list(active), inference_mode=True)
            for adapter, weight in active.items():
                layer.set_scale(adapter, weight)
        self._active = loras

    def _make_room(self) -> None:
        active = {lora.name for lora in self._active}
        idle = [name for name in self._adapters if name not in active]
        for name in idle[: max(0, len(self._adapters) - MAX_LOADED)]:
            self._remove(self._adapters.pop(name))

    def _remove(self, adapter: str) -> None:
        for part, path, layer in self._layers:
            layer.delete_adapter(adapter)
            if not layer.r:
                part.set_submodule(path, layer.get_base_layer())
        self._layers = [entry for entry in self._layers if entry[2].r]


@torch.inference_mode(False)
def _inject(part: nn.Module, adapter: str, weights: dict[str, LoraWeights]) -> None:
    by_rank: dict[int, list[str]] = defaultdict(list)
    for path, layer in weights.items():
        by_rank[layer.rank].append(path)
    config = LoraConfig(
        target_modules=_any_of(weights),
        rank_pattern={f"^{_any_of(paths)}": rank for rank, paths in by_rank.items()},
        inference_mode=True,
    )
    try:
        inject_adapter_in_model(config, part, adapter, low_cpu_mem_usage=True)
    finally:
        # Left on the network, it makes peft warn of the next adapter.
        part.__dict__.pop("peft_config", None)
    for path, layer in weights.items():
        module = cast(LoraLayer, part.get_submodule(path))
        base = cast(nn.Parameter, module.get_base_layer().weight)
        module.lora_alpha[adapter] = layer.alpha
        for matrix, weight in ((module.lora_A, layer.down), (module.lora_B, layer.up)):
            matrix[adapter].weight = nn.Parameter(weight.to(base.device, base.dtype), requires_grad=False)
    part.eval()


def _any_of(paths: Iterable[str]) -> str:
    return f"(?:{'|'.join(map(re.escape, paths))})"


def _listed(names: Iterable[str]) -> str:
    names = sorted(names)
    if not names:
        return "this checkpoint has none"
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return f"there is {', '.join(names[:_NAMES_SHOWN])}{more}"
