"""Which checkpoints there are, and how a name becomes a loaded model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from t2i.api import CheckpointError, CheckpointInfo, EngineError

if TYPE_CHECKING:
    import torch

    from t2i.families.model import Model

EMBEDDED = "embedded"
"""The checkpoint that comes with this package."""
_EMBEDDED_FOLDER = Path(__file__).parent.parent / "weights"


def available(checkpoints_dir: Path | None = None) -> dict[str, Path]:
    """Names and folders: the embedded one, then every subfolder of `checkpoints_dir` that holds a model_index.json."""
    found = {EMBEDDED: _EMBEDDED_FOLDER}
    if checkpoints_dir is not None and checkpoints_dir.is_dir():
        for folder in sorted(checkpoints_dir.iterdir()):
            if (folder / "model_index.json").is_file():
                found.setdefault(folder.name, folder)
    return found


def resolve(name_or_path: str | Path, checkpoints_dir: Path | None = None) -> Path:
    """The folder of a checkpoint by name or path. Raises CheckpointError naming what there is."""
    known = available(checkpoints_dir)
    if str(name_or_path) in known:
        return known[str(name_or_path)]
    path = Path(name_or_path)
    if (path / "model_index.json").is_file():
        return path
    raise CheckpointError(f"There is no checkpoint {str(name_or_path)!r}; there is {', '.join(known)}.")


def describe(path: Path) -> CheckpointInfo:
    """What a checkpoint can do, without reading its weights. Raises CheckpointError."""
    from t2i.families import cascade

    return cascade.describe(path)


def load(name_or_path: str | Path, device: str = "auto", checkpoints_dir: Path | None = None) -> Model:
    """Load a checkpoint to a device (auto, cpu, cuda, mps). Raises CheckpointError or EngineError."""
    folder = resolve(name_or_path, checkpoints_dir)
    from t2i.families.cascade import Cascade

    return Cascade(folder, pick_device(device))


def pick_device(name: str) -> torch.device:
    """The device by its name; "auto" takes CUDA, then Apple's, then the CPU."""
    import torch

    usable = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, there in usable.items() if there))
    kind = name.partition(":")[0]
    if kind not in usable:
        raise EngineError(f"There is no device {name!r}; choose auto, cpu, cuda or mps.", code="device")
    if not usable[kind]:
        raise EngineError(f"This machine has no {kind} device that PyTorch can use; choose auto or cpu.", code="device")
    return torch.device(name)
