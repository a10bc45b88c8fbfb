"""The checkpoints in memory: loaded when a request first needs one, by one thread, so that stepping never waits."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import msgspec

from t2i import checkpoints
from t2i.api import CheckpointError, CheckpointInfo, Hardware
from t2i.families.pipeline import AnyModel


class Models:
    """Loaded models by name, the least recently used first. Not thread-safe: it belongs to the stepping thread."""

    def __init__(self, checkpoints_dir: Path | None, hardware: Hardware, *, keep: int = 2) -> None:
        self._checkpoints_dir = checkpoints_dir
        self._hardware = hardware
        self._keep = keep
        self._loaded: dict[str, AnyModel] = {}
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="loader")

    @property
    def loaded(self) -> tuple[str, ...]:
        return tuple(self._loaded)

    def describe(self) -> tuple[tuple[CheckpointInfo, ...], tuple[str, ...]]:
        """What can be loaded, and one sentence for each checkpoint that is damaged."""
        infos: list[CheckpointInfo] = []
        problems: list[str] = []
        for name, path in checkpoints.available(self._checkpoints_dir).items():
            try:
                # Requests name the folder, whatever the checkpoint calls itself.
                infos.append(msgspec.structs.replace(checkpoints.describe(path), name=name))
            except CheckpointError as error:
                problems.append(str(error))
        return tuple(infos), tuple(problems)

    def get(self, name: str) -> AnyModel | None:
        """The model when it is in memory; that counts as a use."""
        model = self._loaded.pop(name, None)
        if model is not None:
            self._loaded[name] = model
        return model

    def load(self, name: str, *, busy: frozenset[str] = frozenset()) -> Future[AnyModel]:
        """Begin to load a checkpoint and make room for it; models named in `busy` stay. `add` the result.

        Raises CheckpointError at once when no checkpoint has that name, and through the future when it is damaged.
        """
        # Only listed names are ever opened: a request must not read any path it likes.
        known = checkpoints.available(self._checkpoints_dir)
        if name not in known:
            raise CheckpointError(f"There is no checkpoint {name!r}; there is {', '.join(known)}.")
        idle = [other for other in self._loaded if other not in busy]
        for other in idle[: max(0, len(self._loaded) + 1 - self._keep)]:
            del self._loaded[other]
        return self._loader.submit(self._read, known[name])

    def _read(self, path: Path) -> AnyModel:
        return checkpoints.load(path, **msgspec.structs.asdict(self._hardware), checkpoints_dir=self._checkpoints_dir)

    def add(self, name: str, model: AnyModel) -> None:
        self._loaded[name] = model

    def prefetch(self, name: str, *, busy: frozenset[str]) -> Future[AnyModel] | None:
        return None

    def settle(self, busy: frozenset[str]) -> None:
        pass
