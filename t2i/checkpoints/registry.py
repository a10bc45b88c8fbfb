"""Which checkpoints there are, and how a name becomes a loaded model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from t2i.api import CheckpointError, EngineError
from t2i.checkpoints import hub
from t2i.checkpoints.detect import Found, detect
from t2i.checkpoints.files import read_manifest
from t2i.checkpoints.info import config_of, describe, scheduler_config

if TYPE_CHECKING:
    import torch

    from t2i.families.model import Model
    from t2i.families.parts import Placement
    from t2i.families.pipeline import WholePipeline

EMBEDDED = "embedded"
"""The checkpoint that comes with this package."""
LORAS = "loras"
"""The folder of LoRAs in a folder of checkpoints."""
_EMBEDDED_FOLDER = Path(__file__).parent.parent / "weights"


def available(checkpoints_dir: Path | None = None) -> dict[str, Path]:
    """Names and paths: the embedded one, then every subfolder of `checkpoints_dir` that holds a model_index.json and
    every safetensors file in it that is no LoRA; damaged ones too, so that `describe` can say what ails them."""
    found = {EMBEDDED: _EMBEDDED_FOLDER}
    if checkpoints_dir is None or not checkpoints_dir.is_dir():
        return found
    entries = sorted(entry for entry in checkpoints_dir.iterdir() if not entry.name.startswith("."))
    for folder in entries:
        if (folder / "model_index.json").is_file():
            found.setdefault(folder.name, folder)
    for file in entries:
        if file.suffix == ".safetensors" and file.is_file() and not _is_lora(file):
            found.setdefault(file.stem, file)
    return found


def resolve(name_or_path: str | Path, checkpoints_dir: Path | None = None) -> Path:
    """The folder or file of a checkpoint by name or path. Raises CheckpointError naming what there is."""
    known = available(checkpoints_dir)
    if str(name_or_path) in known:
        return known[str(name_or_path)]
    path = Path(name_or_path)
    if path.is_file() or (path / "model_index.json").is_file():
        return path
    raise CheckpointError(f"There is no checkpoint {str(name_or_path)!r}; there is {', '.join(known)}.")


def load(
    name_or_path: str | Path,
    device: str = "auto",
    *,
    dtype: str = "auto",
    checkpoints_dir: Path | None = None,
    text_device: str | None = None,
    vae_device: str | None = None,
    offload: bool = False,
    loras_dir: Path | None = None,
) -> Model | WholePipeline:
    """Load a checkpoint by name, path or hub id ("org/name" or "org/name@revision").

    Devices are auto, cpu, cuda, cuda:1, mps; text encoders and autoencoder are with the denoiser unless told otherwise.
    `dtype` is auto, float32, float16 or bfloat16. `offload` keeps text encoders and autoencoder in main memory while
    they rest. LoRAs come from `loras_dir`, or from the folder "loras" of `checkpoints_dir`. The cascade family is
    always on one device. Raises CheckpointError or EngineError; then nothing stays loaded.
    """
    if loras_dir is None and checkpoints_dir is not None:
        loras_dir = checkpoints_dir / LORAS
    path = _resolve_or_fetch(name_or_path, checkpoints_dir)
    found = detect(path)
    if found.kind == "lora":
        raise CheckpointError(f"{path.name} is a LoRA, no checkpoint: load a checkpoint and name the LoRA in requests.")
    if found.family == "cascade":
        from t2i.families.cascade import Cascade

        at = pick_device(device)
        return Cascade(path, at, pick_dtype(dtype, at), loras_dir)
    from t2i.families.parts import Placement

    denoiser = pick_device(device)
    precision = pick_dtype(dtype, denoiser)
    placement = Placement(
        denoiser=denoiser,
        text=pick_device(text_device) if text_device else denoiser,
        vae=pick_device(vae_device) if vae_device else denoiser,
        dtype=precision,
        vae_dtype=_vae_dtype(found, precision),
        offload=offload,
    )
    info = describe(path)
    if found.family == "pipeline":
        from t2i.families.pipeline import WholePipeline

        return WholePipeline(path, info, placement)
    scheduler = scheduler_config(found, read_manifest(path))
    from t2i.checkpoints.folder import one_sentence

    parts = _load_parts(found, placement)
    with one_sentence(f"The parts of {path.name} do not work together: a config.json belongs to something else"):
        model: Model = _family_class(found)(parts, info, scheduler, placement, loras_dir)
    return model


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
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise EngineError(f"There is no device {name!r}; choose auto, cpu, cuda or mps.", code="device") from error


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """The precision by its name; "auto" takes bfloat16 where the device computes in it, else float32 on a CPU and
    float16 on others."""
    import torch

    from t2i.families.cpu import computes_in_bfloat16

    if name == "auto":
        if device.type == "cpu":
            return torch.bfloat16 if computes_in_bfloat16() else torch.float32
        return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float16
    dtypes = {
        **dict.fromkeys(("float32", "fp32"), torch.float32),
        **dict.fromkeys(("float16", "fp16"), torch.float16),
        **dict.fromkeys(("bfloat16", "bf16"), torch.bfloat16),
    }
    if name not in dtypes:
        raise EngineError(f"There is no precision {name!r}; choose auto, float32, float16 or bfloat16.", code="dtype")
    return dtypes[name]


def _is_lora(file: Path) -> bool:
    try:
        return detect(file).kind == "lora"
    except CheckpointError:
        return False


def _resolve_or_fetch(name_or_path: str | Path, checkpoints_dir: Path | None) -> Path:
    try:
        return resolve(name_or_path, checkpoints_dir)
    except CheckpointError:
        path = Path(name_or_path)
        if path.exists():
            detect(path)  # says better what is wrong with it
        if path.exists() or not hub.is_hub_id(str(name_or_path)):
            raise
    return hub.fetch(str(name_or_path)).path


def _vae_dtype(found: Found, dtype: torch.dtype) -> torch.dtype:
    """Some autoencoders overflow in half precision, and their configs say so."""
    import torch

    if found.family == "pipeline" or not config_of(found, "vae").get("force_upcast"):
        return dtype
    return torch.float32


def _load_parts(found: Found, placement: Placement) -> dict[str, object]:
    if found.kind == "file":
        from t2i.checkpoints.single_file import load_single_file

        return load_single_file(found, placement.dtype, placement.vae_dtype)
    from t2i.checkpoints.folder import load_folder

    return load_folder(found, placement.dtype, placement.vae_dtype)


def _family_class(found: Found) -> type:
    match found.family:
        case "sd":
            from t2i.families.stable_diffusion import StableDiffusion

            return StableDiffusion
        case "sdxl":
            from t2i.families.sdxl import StableDiffusionXL

            return StableDiffusionXL
        case "sd3":
            from t2i.families.sd3 import StableDiffusion3

            return StableDiffusion3
    from t2i.families.flux import Flux

    return Flux
