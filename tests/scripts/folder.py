"""A folder of checkpoints for the scripts here: some in order, one slow, and one damaged in each way there is.

python -m tests.scripts.folder /tmp/checkpoints
IMAGINE_CHECKPOINTS_DIR=/tmp/checkpoints IMAGINE_CHECKPOINT=tiny imagine-bot sandbox --run @tests/scripts/racing.txt
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

PICKLE = b"\x80\x02}q\x00X\x05\x00\x00\x00"


def build(tiny: Path, folder: Path) -> Path:
    """Copies of the checkpoint `tiny`, each changed in its own way."""
    for name in ("tiny", "second", "slow", "truncated", "swapped", "foreign"):
        shutil.copytree(tiny, folder / name)
    change_index(folder / "slow", lambda index: index["defaults"].update(steps=60))
    change_index(folder / "foreign", lambda index: index.update(_class_name="StableDiffusionPipeline"))
    weights = first_weights(folder / "truncated")
    weights.write_bytes(weights.read_bytes()[:-9])
    weights = first_weights(folder / "swapped")
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    (folder / "renamed.safetensors").write_bytes(PICKLE)
    write_lora(folder / "ink.safetensors")
    return folder


def first_weights(checkpoint: Path) -> Path:
    return next((checkpoint / "base").glob("*.safetensors"))


def change_index(checkpoint: Path, change: Callable[[dict[str, Any]], None]) -> None:
    file = checkpoint / "model_index.json"
    index = json.loads(file.read_text())
    change(index)
    file.write_text(json.dumps(index))


def write_lora(file: Path) -> None:
    """A safetensors file of one tensor, as a LoRA names it."""
    name = "unet.mid_block.attentions.0.proj_in.lora_A.weight"
    header = json.dumps({name: {"dtype": "F32", "shape": [2, 4], "data_offsets": [0, 32]}}).encode()
    file.write_bytes(len(header).to_bytes(8, "little") + header + bytes(32))


if __name__ == "__main__":
    from t2i.checkpoints import tiny

    target = Path(sys.argv[1])
    build(tiny.build(target.with_name(f"{target.name}-tiny") / "tiny"), target)
