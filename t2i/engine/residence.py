"""Where the weights of a loaded model are: on its device, or resting in main memory until they are wanted again."""

from __future__ import annotations

import ctypes
import logging
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from t2i.families.pipeline import AnyModel

CHUNK = 128 * 2**20
"""Bytes of main memory allocated at once: pinning is slow, and PyTorch rounds what it pins up to a power of two."""
ALIGNMENT = 64
"""Bytes."""

logger = logging.getLogger(__name__)


class Residence:
    """A loaded model, on its device or in main memory.

    Weights do not change once they are loaded, so that what was copied to main memory may stay there and the next
    time the model has to leave its device costs nothing. Parts that rest in main memory anyway are left alone.
    """

    def __init__(self, model: AnyModel) -> None:
        self.model: AnyModel | None = model
        self.size = self.measure()
        """Bytes of the weights that are, or were, on the device."""
        self._copies: dict[str, Tensor] = {}
        self._devices: dict[str, torch.device] = {}
        """Where the weights were before they came to rest."""

    def measure(self) -> int:
        """Count anew, as LoRAs come and go. Only while the model is on its device."""
        self.size = sum(tensor.nbytes for tensor in self._movable().values())
        return self.size

    @property
    def copied(self) -> int:
        """Bytes of the copy in main memory."""
        return sum(copy.nbytes for copy in self._copies.values())

    def park(self) -> None:
        """Move the weights to main memory, pinned where CUDA will fetch them; where that fails, drop the model."""
        try:
            tensors = self._movable()
            kept = {name: copy for name, copy in self._copies.items() if name in tensors and _fits(copy, tensors[name])}
            missing = {name: tensor for name, tensor in tensors.items() if name not in kept}
            self._devices = {name: tensor.device for name, tensor in tensors.items()}
            pin = any(device.type == "cuda" for device in self._devices.values())
            fresh = dict(zip(missing, _allocate(missing.values(), pin), strict=True))
            _copy((missing[name], copy) for name, copy in fresh.items())
            self._copies = kept | fresh
            for name, tensor in tensors.items():
                tensor.data = self._copies[name]
        except (MemoryError, RuntimeError) as error:
            logger.warning("A model was dropped, because main memory has no room for it: %s", error)
            self.discard()

    def restore(self) -> AnyModel | None:
        """The model, back on its device; None when it was dropped. Raises torch.OutOfMemoryError."""
        if self.model is not None:
            tensors = weights(self.model.modules())
            arrivals = {
                name: torch.empty_like(self._copies[name], device=device) for name, device in self._devices.items()
            }
            _copy((self._copies[name], arrival) for name, arrival in arrivals.items())
            for name, arrival in arrivals.items():
                tensors[name].data = arrival
        return self.model

    def forget_copy(self) -> None:
        """Free the copy of a model that is on its device."""
        self._copies = {}

    def discard(self) -> None:
        """Let go of the model and its weights."""
        self.model = None
        self._copies = {}
        give_back_memory()

    def _movable(self) -> dict[str, Tensor]:
        assert self.model is not None
        everything = weights(self.model.modules())
        if self.model.device.type == "cpu":
            return everything
        return {name: tensor for name, tensor in everything.items() if tensor.device.type != "cpu"}


def weights(modules: Iterable[nn.Module]) -> dict[str, Tensor]:
    """Parameters and buffers by name, those that modules share only once."""
    found: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in _named(modules):
        if id(tensor) not in seen:
            seen.add(id(tensor))
            found[name] = tensor
    return found


def give_back_memory() -> None:
    """Have the C library return freed memory to the system: it keeps the holes that a model leaves otherwise."""
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)


def _named(modules: Iterable[nn.Module]) -> Iterator[tuple[str, Tensor]]:
    for index, module in enumerate(modules):
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            yield f"{index}.{name}", tensor


def _fits(copy: Tensor, tensor: Tensor) -> bool:
    return copy.shape == tensor.shape and copy.dtype == tensor.dtype


def _allocate(tensors: Iterable[Tensor], pin: bool) -> Iterator[Tensor]:
    """Room in main memory for tensors like these, strides included, cut from a few large pieces."""
    buffer, used = torch.empty(0, dtype=torch.uint8), 0
    for tensor in tensors:
        size = -(-tensor.nbytes // ALIGNMENT) * ALIGNMENT
        if used + size > len(buffer):
            buffer, used = torch.empty(max(CHUNK, size), dtype=torch.uint8, pin_memory=pin), 0
        like = torch.empty_like(tensor, device="meta")
        piece = buffer[used : used + tensor.nbytes].view(tensor.dtype)
        yield piece.as_strided(like.size(), like.stride())
        used += size


def _copy(pairs: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Copy each first tensor into the second and wait; on CUDA beside the work of others, on streams of its own."""
    by_device: dict[torch.device, list[tuple[Tensor, Tensor]]] = defaultdict(list)
    for source, target in pairs:
        by_device[target.device if source.device.type == "cpu" else source.device].append((source, target))
    streams = []
    for device, own in by_device.items():
        side: AbstractContextManager[object] = nullcontext()
        if device.type == "cuda":
            streams.append(stream := torch.cuda.Stream(device))  # type: ignore[no-untyped-call]
            # Work that was queued before may still read what the allocator hands out anew.
            stream.wait_stream(torch.cuda.default_stream(device))
            side = torch.cuda.stream(stream)
        with side:
            for source, target in own:
                target.copy_(source, non_blocking=device.type == "cuda")
    for stream in streams:
        stream.synchronize()
