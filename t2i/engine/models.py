"""The checkpoints in memory: loaded when a request first needs one, by one thread, so that stepping never waits.

Models that have to leave their device for others rest in main memory while there is room, and come back from there.

A model goes by a key: the name of its checkpoint, but for those that no new request is to meet. A checkpoint on trial
is "name/trial", and one that was replaced while requests were in flight is "name/retired1". No name has a slash.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import msgspec
import torch

from t2i import checkpoints
from t2i.api import CheckpointError, EngineError, Hardware, Submit
from t2i.checkpoints.registry import pick_device, pick_dtype
from t2i.engine.residence import Residence
from t2i.families.pipeline import AnyModel

DEVICE_SHARE = 0.6
"""Of a graphics card's memory for weights; the rest is for what a step computes."""
MEMORY_SHARE = 0.5
"""Of the machine's memory for weights, those of models that compute there or those of models at rest."""

_TRIAL = "trial"
_RETIRED = "retired"

_CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


@dataclass
class _Load:
    """A model that is wanted on the device."""

    name: str
    path: Path
    size: int
    """Bytes; an estimate where it was never loaded before."""
    residence: Residence | None
    """Where it rests, if it does."""
    future: Future[AnyModel] = field(default_factory=Future)
    began: float = 0.0


def key_of(submit: Submit) -> str:
    """Under which the model is known that a request is for."""
    return f"{submit.checkpoint}/{_TRIAL}" if submit.trial else submit.checkpoint


class Models:
    """Loaded models by their keys. Not thread-safe: it belongs to the stepping thread, and has a loader of its own.

    Whoever is used least recently leaves the device when another model needs the room, but never while it is `busy`:
    then the other one waits, and whoever asks anew for the busy one waits behind it, once it has been there for as long
    as it took to load. So loading takes half of the time at most, and nobody waits for longer than that. Budgets are
    bytes of weights: `device_budget` on the device, `memory_budget` for those that rest in main memory, which is 0
    where the device is main memory; None derives them from the machine. A model that is larger than the whole budget is
    loaded alone.
    """

    def __init__(
        self,
        checkpoints_dir: Path | None,
        hardware: Hardware,
        *,
        device_budget: int | None = None,
        memory_budget: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises EngineError for a device that this machine does not have."""
        self._checkpoints_dir = checkpoints_dir
        self._hardware = hardware
        self._device = pick_device(hardware.device)
        self._device_budget = default_device_budget(self._device) if device_budget is None else device_budget
        self._memory_budget = default_memory_budget(self._device) if memory_budget is None else memory_budget
        self._present: dict[str, Residence] = {}
        """On the device, the least recently used first."""
        self._resting: dict[str, Residence] = {}
        """In main memory, those that left the device first come first."""
        self._wanted: dict[str, _Load] = {}
        """Waiting for room, in the order in which they were asked for."""
        self._coming: dict[str, _Load] = {}
        """Being loaded; the loader thread makes room before."""
        self._leaving: frozenset[str] = frozenset()
        """Busy models that have to go next."""
        self._sizes: dict[str, int] = {}
        self._stays_until: dict[str, float] = {}
        """Before then, a busy model takes new requests though others wait for its room."""
        self._clock = clock
        self._retirements = count(1)
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="loader")

    @property
    def loaded(self) -> tuple[str, ...]:
        """Checkpoints whose requests start at once."""
        return tuple(key for key in self._present if "/" not in key)

    @property
    def weights(self) -> dict[str, int]:
        """Bytes of every checkpoint that was on the device."""
        return {key: size for key, size in self._sizes.items() if "/" not in key}

    @property
    def resting_bytes(self) -> int:
        """Bytes of weights in main memory that rest there, or that are copies of what is on the device."""
        resting = sum(residence.size for residence in self._resting.values())
        return resting + sum(residence.copied for residence in self._present.values())

    def get(self, name: str) -> AnyModel | None:
        """The model when it is on the device and may stay there; that counts as a use."""
        if name not in self._present:
            return None
        if name in self._leaving and self._clock() >= self._stays_until.get(name, 0.0):
            return None
        self._present[name] = residence = self._present.pop(name)
        return residence.model

    def load(self, key: str, *, busy: frozenset[str] = frozenset()) -> Future[AnyModel]:
        """Have a model brought to the device as soon as there is room; those named in `busy` stay. `add` the result.

        Raises CheckpointError at once when no checkpoint has that name, and through the future when it is damaged;
        EngineError (code "memory") through the future when it does not fit.
        """
        # Only listed names are ever opened: a request must not read any path it likes.
        known = checkpoints.available(self._checkpoints_dir)
        name = key.removesuffix(f"/{_TRIAL}")
        if name not in known:
            raise CheckpointError(f"There is no checkpoint {name!r}; there is {', '.join(known)}.")
        for other, residence in self._present.items():
            self._sizes[other] = residence.measure()
        load = self._wanted[key] = _Load(key, known[name], self._size(key, known[name]), None)
        self.settle(busy)
        return load.future

    def prefetch(self, name: str, *, busy: frozenset[str]) -> Future[AnyModel] | None:
        """Load a model if there is room beside those that are busy and nobody waits for any; None otherwise."""
        path = checkpoints.available(self._checkpoints_dir).get(name)
        if path is None or self._wanted or name in self._present or name in self._coming:
            return None
        if self._size(name, path) + self._taken(only=busy) > self._device_budget:
            return None
        return self.load(name, busy=busy)

    def add(self, name: str, model: AnyModel) -> None:
        """Have a model that came to the device answer to its name."""
        load = self._coming.pop(name, None)
        if load is not None:
            now = self._clock()
            self._stays_until[name] = now + (now - load.began)
        residence = load.residence if load is not None and load.residence is not None else Residence(model)
        self._present[name] = residence
        self._sizes[name] = residence.size
        if self.resting_bytes > self._memory_budget:
            residence.forget_copy()

    def keep_trial(self, name: str) -> str | None:
        """Have what was tried answer to its name from now on. Returns the new key of the model that did before, if one
        is on the device: it stays there as long as that key is busy."""
        trial = f"{name}/{_TRIAL}"
        retired = self.forget(name)
        for place in (self._present, self._resting):
            if trial in place:
                place[name] = place.pop(trial)
                self._sizes[name] = place[name].size
        self._sizes.pop(trial, None)
        return retired

    def drop_trial(self, name: str) -> None:
        """Let go of what was tried."""
        self._drop(f"{name}/{_TRIAL}")

    def forget(self, name: str) -> str | None:
        """Have no new request meet the model that has this name now. Returns its new key, as `keep_trial` does."""
        self._let_go(self._resting.pop(name, None))
        self._sizes.pop(name, None)
        if name not in self._present:
            return None
        retired = f"{name}/{_RETIRED}{next(self._retirements)}"
        self._present[retired] = self._present.pop(name)
        self._sizes[retired] = self._present[retired].size
        return retired

    def settle(self, busy: frozenset[str]) -> None:
        """Begin to load what waits and fits now. To be called whenever a model may have ceased to be busy."""
        for key in [key for key in self._present if f"/{_RETIRED}" in key and key not in busy]:
            self._drop(key)
        self._coming = {name: load for name, load in self._coming.items() if not _failed(load.future)}
        self._leaving = frozenset()
        while self._wanted:
            load = next(iter(self._wanted.values()))
            if model := self.get(load.name):
                load.future.set_result(model)
                del self._wanted[load.name]
                continue
            # From now on it does not count as resting, so that nobody who leaves for it takes its place there.
            load.residence = self._resting.pop(load.name, load.residence)
            if not self._make_room(load.size, busy):
                return
            self._coming[load.name] = self._wanted.pop(load.name)
            load.began = self._clock()
            self._loader.submit(self._bring, load)

    def _drop(self, key: str) -> None:
        if load := self._wanted.pop(key, None):
            load.future.set_exception(EngineError(f"{key.partition('/')[0]} is not wanted any more."))
        self._let_go(self._present.pop(key, None))
        self._let_go(self._resting.pop(key, None))
        self._sizes.pop(key, None)

    def _let_go(self, residence: Residence | None) -> None:
        if residence is not None:
            self._loader.submit(residence.discard)

    # --- room -----------------------------------------------------------------------------------------------------

    def _make_room(self, size: int, busy: frozenset[str]) -> bool:
        """Whether a model of this size may come now; who has to leave for it is gone, or leaves next."""
        taken = self._taken()
        idle = [name for name in self._present if name not in busy]
        for name in idle:
            if taken + size <= self._device_budget:
                return True
            self._evict(name)
            taken -= self._sizes[name]
        for name in [name for name in self._present if name in busy]:
            if taken + size <= self._device_budget:
                break
            self._leaving |= {name}
            taken -= self._sizes[name]
        return not self._leaving and (taken + size <= self._device_budget or not self._coming)

    def _taken(self, only: frozenset[str] | None = None) -> int:
        """Bytes on the device, of all models or of those named, and of those that come."""
        present = sum(self._sizes[name] for name in self._present if only is None or name in only)
        return present + sum(load.size for load in self._coming.values())

    def _evict(self, name: str) -> None:
        """Let a model rest in main memory if it fits there, at the cost of those that have rested for longer."""
        leaving = self._present.pop(name)
        if leaving.size > self._memory_budget:
            self._loader.submit(leaving.discard)
            return
        # Copies of what is on the device anyway are of less use than models at rest.
        for other in self._present.values():
            if self.resting_bytes + leaving.size > self._memory_budget:
                other.forget_copy()
        while self.resting_bytes + leaving.size > self._memory_budget:
            self._loader.submit(self._resting.pop(next(iter(self._resting))).discard)
        self._resting[name] = leaving
        self._loader.submit(leaving.park)

    def _size(self, name: str, path: Path) -> int:
        """Bytes of a model's weights: as they were the last time, else by what its files say."""
        if name not in self._sizes:
            try:
                info = checkpoints.describe(path)
            except CheckpointError:
                return 0  # loading it will say what ails it
            self._sizes[name] = info.parameters * pick_dtype(self._hardware.dtype, self._device).itemsize
        return self._sizes[name]

    # --- the loader thread ----------------------------------------------------------------------------------------

    def _bring(self, load: _Load) -> None:
        try:
            model = load.residence.restore() if load.residence is not None else None
            if model is None:
                model = self._read(load.path)
                load.residence = Residence(model)
        except (MemoryError, torch.OutOfMemoryError):
            name = load.name.partition("/")[0]
            message = f"There is not enough memory to load {name}: try again later, or use a smaller checkpoint."
            load.residence = None
            load.future.set_exception(EngineError(message, code="memory", retryable=True))
        except BaseException as error:
            load.future.set_exception(error)
        else:
            load.future.set_result(model)

    def _read(self, path: Path) -> AnyModel:
        return checkpoints.load(path, **msgspec.structs.asdict(self._hardware), checkpoints_dir=self._checkpoints_dir)


def default_device_budget(device: torch.device) -> int:
    """Bytes of weights that may be on a device."""
    match device.type:
        case "cuda":
            return int(DEVICE_SHARE * torch.cuda.get_device_properties(device).total_memory)
        case "mps":
            return int(DEVICE_SHARE * torch.mps.recommended_max_memory())
    return int(MEMORY_SHARE * main_memory())


def default_memory_budget(device: torch.device) -> int:
    """Bytes of weights that may rest in main memory, beside a device that has memory of its own."""
    return int(MEMORY_SHARE * main_memory()) if device.type == "cuda" else 0


def main_memory() -> int:
    """Bytes that the machine has, or that the container may use."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for file in _CGROUP_LIMITS:
        if file.is_file() and (limit := file.read_text().strip()).isdigit():
            limits.append(int(limit))
    return min(limits)


def _failed(future: Future[AnyModel]) -> bool:
    return future.done() and future.exception() is not None
