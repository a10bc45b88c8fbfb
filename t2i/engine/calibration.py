"""How long a forward takes by the number of its rows, measured once on this device and remembered on disk.

A network that fills the device with one row gains nothing from a second, and whoever waits for both loses; one that
leaves it idle takes many rows in the same time. Only a measurement tells (Little's law does not), so every kind of
forward that requests use is timed: while the engine is idle, one forward at a time, never for longer than a budget.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
import weakref
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import torch

from t2i.api import GenerationRequest
from t2i.engine import runner
from t2i.engine.scheduler import Room
from t2i.engine.sequence import Kind, Sequence
from t2i.families.model import Model, Rows
from t2i.families.pipeline import AnyModel, WholePipeline

TOLERANCE = 0.05
"""How far above the best time of a row it may be with fewer rows, which everybody waits less for."""
GAIN = 0.02
"""Less than that is no improvement, and after two sizes without one there is no use in larger ones."""
ROUNDS = 3
"""After the first: the fastest of all counts, as others at work on the machine slow down one round or another."""
SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
"""Rows."""
GUESSED_MICROSECONDS = 7
"""Of one latent pixel in one row, where nothing was measured."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Key:
    """Everything that a time depends on: when any of it changes, it is measured anew."""

    checkpoint_sha256: str
    stage: str
    shape: tuple[int, int, int]
    dtype: str
    device: str
    torch: str

    @classmethod
    def of(cls, model: AnyModel, kind: Kind) -> Key:
        device = model.device
        name = (
            torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type} x{torch.get_num_threads()}"
        )
        dtype = getattr(model, "dtype", torch.float32)
        return cls(model.info.sha256, *kind, str(dtype), name, torch.__version__)


@dataclass(frozen=True, slots=True)
class Profile:
    """Seconds of a forward by its rows."""

    seconds: dict[int, float]

    @property
    def best(self) -> int:
        """B*: the fewest rows that take hardly longer, each, than rows ever do."""
        per_row = {rows: seconds / rows for rows, seconds in self.seconds.items()}
        enough = min(per_row.values()) * (1 + TOLERANCE)
        return min(rows for rows, seconds in per_row.items() if seconds <= enough)

    @property
    def free(self) -> int:
        """The most rows that take hardly longer, together, than one."""
        enough = self.seconds[1] * (1 + TOLERANCE)
        return max(rows for rows, seconds in self.seconds.items() if seconds <= enough)

    @property
    def room(self) -> Room:
        return Room(self.best, min(self.free, self.best))

    @property
    def row_microseconds(self) -> int:
        return max(1, round(1e6 * self.seconds[self.best] / self.best))


@dataclass(frozen=True, slots=True)
class _Task:
    """Something to measure: a kind of forward with one row as an example, or all kinds of the requests by default."""

    checkpoint: str
    model: weakref.ref[Model]
    """The cache of models decides how long it lives."""
    example: tuple[Key, Rows] | None = None


class Calibration:
    """Profiles by what they depend on. Not thread-safe: it belongs to the stepping thread.

    `folder` keeps them as JSON, None nowhere. `most_rows` are tried at most, and `budget` seconds are spent on a kind.
    """

    def __init__(
        self,
        folder: Path | None,
        *,
        most_rows: int,
        budget: float = 20.0,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._folder = folder
        self._most_rows = most_rows
        self._budget = budget
        self._clock = clock
        self._profiles: dict[Key, Profile | None] = {}
        """None for what is to be measured, or could not be."""
        self._tasks: list[_Task] = []
        self._measuring: Iterator[None] | None = None
        self._present: Collection[str] = ()

    def profile(self, key: Key) -> Profile | None:
        """What is known of a kind of forward; None before it was measured."""
        if key not in self._profiles and (profile := self._read(key)):
            self._profiles[key] = profile
        return self._profiles.get(key)

    def row_microseconds(self, key: Key) -> int:
        """What a row of this kind takes where rows take least, or a guess."""
        if profile := self.profile(key):
            return profile.row_microseconds
        _, height, width = key.shape
        return max(1, GUESSED_MICROSECONDS * height * width)

    def welcome(self, checkpoint: str, model: AnyModel) -> None:
        """Have all that requests use by default measured, of a model that was just loaded under this name."""
        if not isinstance(model, WholePipeline):
            self._tasks.append(_Task(checkpoint, weakref.ref(model)))

    def notice(self, checkpoint: str, model: AnyModel, job: runner.Job) -> None:
        """Have the kind of a job's next forward measured, if it never was."""
        if not isinstance(job, Sequence):
            return
        key = Key.of(model, job.kind)
        if self.profile(key) is None and key not in self._profiles:
            self._profiles[key] = None
            example = runner.some(runner.rows_for([job]), slice(0, 1))
            self._tasks.append(_Task(checkpoint, weakref.ref(cast(Model, model)), (key, example)))

    def measure(self, present: Collection[str]) -> bool:
        """Do one forward of what there is to measure of the checkpoints that are `present`; whether there was any."""
        self._present = present
        self._measuring = self._measuring or self._work_through()
        for _ in self._measuring:
            return True
        self._measuring = None
        return False

    def _work_through(self) -> Iterator[None]:
        while self._tasks:
            task = self._tasks.pop(0)
            try:
                yield from self._explore(task) if task.example is None else self._time(task, *task.example)
            except Exception:
                logger.warning("%s could not be calibrated", task.checkpoint, exc_info=True)

    def _explore(self, task: _Task) -> Iterator[None]:
        """Draw something in as few steps as there can be, to come by all kinds of forwards."""
        job: runner.Job | None = None
        while (model := self._awake(task)) and not (job and job.finished):
            if job is None:
                job = runner.admit(model, GenerationRequest(prompt="calibration", steps=1, seed=0), "calibration")
            self.notice(task.checkpoint, model, job)
            runner.step(model, [job])
            del model
            yield

    def _time(self, task: _Task, key: Key, example: Rows) -> Iterator[None]:
        seconds: dict[int, float] = {}
        left = self._budget
        for count in self._sizes(seconds):
            if left <= 0 and seconds:
                break
            if (model := self._awake(task)) is None:
                # It may come back, and be asked for again.
                del self._profiles[key]
                return
            rows = runner.some(example, torch.zeros(count, dtype=torch.long, device=example.latents.device))
            try:
                elapsed = self._forward(model, rows)
            except runner.OUT_OF_MEMORY:
                break
            del model
            left -= elapsed
            seconds[count] = min(seconds.get(count, elapsed), elapsed)
            yield
        if seconds:
            self._profiles[key] = profile = Profile(_steady(seconds))
            self._write(key, profile)

    def _sizes(self, seconds: dict[int, float]) -> Iterator[int]:
        """Rows to be tried next, after what was measured so far."""
        stale = 0
        for count in SIZES:
            least = min((known / size for size, known in seconds.items()), default=float("inf"))
            yield count  # which may have to prepare something
            yield count
            stale = stale + 1 if seconds[count] / count > least * (1 - GAIN) else 0
            if stale == 2 or count >= self._most_rows:
                break
        for _ in range(ROUNDS):
            yield from list(seconds)

    def _forward(self, model: Model, rows: Rows) -> float:
        began = self._clock()
        model.predict(rows)
        _wait_for(model.device)
        return self._clock() - began

    def _awake(self, task: _Task) -> Model | None:
        """The model of a task, as long as it is where it computes."""
        return task.model() if task.checkpoint in self._present else None

    # --- on disk --------------------------------------------------------------------------------------------------

    def _read(self, key: Key) -> Profile | None:
        """A file that is damaged, or of something else, is as good as none."""
        if self._folder is None:
            return None
        try:
            content = json.loads(_file(self._folder, key).read_text())
            seconds = {int(rows): float(value) for rows, value in content["seconds"].items()}
            if (
                content["key"] != _plain(key)
                or 1 not in seconds
                or not all(0 < each < 1e6 for each in seconds.values())
            ):
                return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return Profile(seconds)

    def _write(self, key: Key, profile: Profile) -> None:
        if self._folder is None:
            return
        file = _file(self._folder, key)
        scratch = file.with_suffix(f".{os.getpid()}")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            scratch.write_text(json.dumps({"key": _plain(key), "seconds": profile.seconds}, indent=2) + "\n")
            scratch.replace(file)
        except OSError as error:
            logger.warning("A calibration could not be kept: %s", error)


def _steady(seconds: dict[int, float]) -> dict[int, float]:
    """More rows never take less time: whatever seems to was slowed down by something else."""
    sizes = sorted(seconds)
    return {size: min(seconds[other] for other in sizes if other >= size) for size in sizes}


def default_folder() -> Path:
    """Where calibrations are kept: XDG_CACHE_HOME/t2i/calibration."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "t2i" / "calibration"


def _file(folder: Path, key: Key) -> Path:
    return folder / f"{hashlib.sha256(json.dumps(_plain(key)).encode()).hexdigest()[:16]}.json"


def _plain(key: Key) -> dict[str, object]:
    return asdict(key) | {"shape": list(key.shape)}


def _wait_for(device: torch.device) -> None:
    match device.type:
        case "cuda":
            torch.cuda.synchronize(device)
        case "mps":
            torch.mps.synchronize()
