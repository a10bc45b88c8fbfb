"""The checkpoints of the GPU suite, small: the same pictures from both libraries, and switches between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from benchmarks import subjects
from benchmarks.study import Study
from benchmarks.subjects import Subject
from benchmarks.suites import SMALL
from benchmarks.switching import switch_seconds

CPU = torch.device("cpu")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("checkpoints")


@pytest.mark.parametrize("build", [subjects.embedded, subjects.sd15, subjects.sdxl])
def test_both_libraries_draw_the_same(build: Callable[..., Subject], scratch: Path) -> None:
    subject = build(CPU, scratch, small=True)
    errors = Study(subject, SMALL, lambda _: None).equality()
    assert 0 < errors["float32"] < subjects.TOLERANCES["float32"]


@pytest.mark.parametrize("build", [subjects.sd15, subjects.sdxl])
def test_the_network_alone_takes_any_batch(build: Callable[..., Subject], scratch: Path) -> None:
    subject = build(CPU, scratch, small=True)
    for rows in (1, 3):
        subject.plain.forward(rows)


def test_a_model_comes_back_from_main_memory_sooner_than_from_disk(scratch: Path) -> None:
    for name in ("sd15", "sdxl"):
        subjects.random_checkpoint(name, CPU, scratch, small=True)
    found = switch_seconds(scratch, "sdxl", "sd15", CPU, rounds=2)
    assert 0 < found["device_seconds"] < found["memory_seconds"] < found["disk_seconds"]


def test_a_random_checkpoint_is_written_once(scratch: Path) -> None:
    folder = subjects.random_checkpoint("sd15", CPU, scratch, small=True)
    before = (folder / "model_index.json").stat().st_mtime_ns
    assert subjects.random_checkpoint("sd15", CPU, scratch, small=True) == folder
    assert (folder / "model_index.json").stat().st_mtime_ns == before


def test_nothing_of_arm_1_is_ours(scratch: Path) -> None:
    """Else what is done to make our network quick would make diffusers' quick too."""
    subject = subjects.sd15(CPU, scratch, small=True)
    ours = {weight.data_ptr() for module in subject.model.modules() for weight in module.parameters()}
    assert not ours & {weight.data_ptr() for weight in subject.plain.unet.parameters()}
