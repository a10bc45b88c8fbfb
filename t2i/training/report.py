"""What can be seen of a run: a progress bar, TensorBoard's scalars and pictures, and a plot of the loss."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_log = logging.getLogger(__name__)
_CHAT = (49, 51, 56)
"""The ground that most of these pictures will be seen on."""
_RECENT = 50
"""Steps that a shown loss is the mean of."""


class Report:
    """Tells of one run, whose files are in `folder`, from `step` up to `target`. Silent where `shown` is False."""

    def __init__(self, name: str, folder: Path, step: int, target: int, *, shown: bool = True) -> None:
        self._name, self._folder = name, folder
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, disable=not shown)
        self._row = self._progress.add_task(name, total=target, completed=step)
        self._board = _board(folder, step) if shown else None
        self._began = time.monotonic()
        self._first = step

    def __enter__(self) -> Report:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._progress.stop()
        if self._board is not None:
            self._board.close()

    def step(self, step: int, losses: Sequence[float], scalars: dict[str, float]) -> None:
        """A step was taken: its loss is the last of `losses`, and `scalars` are what else is worth a curve."""
        description = f"{self._name} {np.mean(losses[-_RECENT:]):.4f}"
        self._progress.update(self._row, completed=step, description=description)
        if self._board is None:
            return
        rate = (step - self._first) / max(1e-9, time.monotonic() - self._began)
        for name, value in {"loss": losses[-1], "steps a second": rate, **scalars}.items():
            self._board.add_scalar(name, value, step)

    def picture(self, step: int, sheet: Image.Image) -> None:
        """What the network draws by now, as a file and in TensorBoard."""
        ground = Image.new("RGBA", sheet.size, _CHAT)
        flat = Image.alpha_composite(ground, sheet.convert("RGBA")).convert("RGB")
        flat.save(self._folder / f"samples-{step:06d}.png")
        if self._board is not None:
            self._board.add_image("samples", np.asarray(flat), step, dataformats="HWC")


def plot_losses(losses: Sequence[float], folder: Path, name: str) -> None:
    """Draw losses.png; nothing where matplotlib is missing."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        return
    window = max(1, len(losses) // 100)
    steps = np.arange(len(losses)) + 1
    smooth = np.convolve(losses, np.ones(window) / window, mode="valid")
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.plot(steps, losses, color="#9db4ce", linewidth=0.5)
    axes.plot(steps[window - 1 :], smooth, color="#1f4e8c", linewidth=1.5, label=f"mean of {window} steps")
    axes.set(xlabel="step", ylabel="loss", yscale="log", title=name)
    axes.legend(frameon=False)
    figure.savefig(folder / "losses.png", dpi=110)


def _board(folder: Path, step: int) -> SummaryWriter | None:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        _log.warning(
            "TensorBoard is not installed (pip install 'imagine-bot[train]'), so the curves of this run are only "
            "those of %s.",
            folder / "losses.json",
        )
        return None
    # What a run wrote after its last save is taken back when it resumes there.
    board: Any = SummaryWriter
    writer: SummaryWriter = board(str(folder / "tensorboard"), purge_step=step)
    return writer
