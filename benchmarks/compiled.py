"""Arm 2: arm 1 with its network compiled, where compiling comes to an end in the time there is.

The compiler cannot be stopped half-way, so a process of its own does the work first and leaves it in the compiler's
cache on disk; whoever compiles afterwards finds it there.

    python -m benchmarks.compiled --device cpu
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import torch

from benchmarks import subjects
from benchmarks.measure import request_for, stopwatch
from benchmarks.plain import Plain
from benchmarks.traces import Mix
from t2i.checkpoints.registry import pick_device


def compile_plain(plain: Plain, mix: Mix, device: torch.device, found: dict[str, Any]) -> None:
    """Replace the network by a compiled one and draw with guidance and without, as the jobs of `mix` will; the seconds
    that it takes go into `found`."""
    if device.type == "cuda":
        plain.unet = torch.compile(plain.unet.to(memory_format=torch.channels_last), mode="reduce-overhead")
    else:
        plain.unet = torch.compile(plain.unet)
    # One scale stands for all that have an unconditional half.
    scales = {scale == 1.0: scale for scale in mix.guidance}.values()
    with stopwatch(found, "compile_seconds"):
        # Schedulers differ in the type of their timesteps.
        for sampler, scale in product(mix.samplers, scales):
            plain.draw(request_for(replace(mix, samplers=(sampler,)), 1, 2, scale))


def fits_into(seconds: float, device: torch.device) -> bool:
    """Whether another process could compile the embedded checkpoint's network in that time."""
    command = [sys.executable, "-m", "benchmarks.compiled", "--device", str(device)]
    # The compiler starts helpers, so whatever is left is ended as a group.
    process = subprocess.Popen(
        command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(os.environ)
    )
    try:
        return process.wait(seconds) == 0
    except subprocess.TimeoutExpired:
        return False
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu")
    chosen = pick_device(parser.parse_args().device)
    with tempfile.TemporaryDirectory() as folder:
        subject = subjects.embedded(chosen, Path(folder), small=False)
        compile_plain(subject.plain, subject.mix, chosen, {})
