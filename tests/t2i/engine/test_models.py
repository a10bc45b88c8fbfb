"""Which models stay on the device, which rest in main memory, and who waits for whom, with tiny checkpoints.

The device is the CPU, where resting is a copy like any other; budgets count in models.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from t2i import checkpoints
from t2i.api import (
    CheckpointError,
    Done,
    EngineError,
    Event,
    GenerationRequest,
    Hardware,
    ImageReady,
    RequestEvent,
    Submit,
)
from t2i.engine.loop import StepLoop
from t2i.engine.models import Models, default_device_budget, default_memory_budget, main_memory
from t2i.engine.residence import Residence, weights
from t2i.families.latent import LatentModel
from t2i.families.pipeline import AnyModel
from t2i.pipeline import Pipeline

NOBODY: frozenset[str] = frozenset()
REQUEST = GenerationRequest(prompt="a red apple", images=2, seed=7, width=16, steps=3)


@pytest.fixture(scope="module")
def folder(checkpoints_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four checkpoints of one size, and one that is damaged."""
    folder = tmp_path_factory.mktemp("models")
    for name in ("a", "b", "c", "d", "damaged"):
        shutil.copytree(checkpoints_dir / "tiny", folder / name)
    weights = next((folder / "damaged" / "base").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1])
    return folder


@pytest.fixture(scope="module")
def size(folder: Path) -> int:
    return Residence(checkpoints.load(folder / "a", "cpu")).size


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The checkpoints that were read from disk."""
    load, reads = checkpoints.load, []

    def counted(path: Path, **options: Any) -> AnyModel:
        reads.append(path.name)
        return load(path, **options)

    monkeypatch.setattr(checkpoints, "load", counted)
    return reads


@pytest.fixture
def make(folder: Path, size: int) -> Callable[..., Models]:
    """Models with room for so many on the device and so many in main memory."""

    def make(device: float, memory: float = 0.0) -> Models:
        hardware = Hardware(device="cpu")
        budgets = {"device_budget": int(device * size), "memory_budget": int(memory * size)}
        return Models(folder, hardware, **budgets, clock=lambda: 0.0)  # where loading takes no time, nobody stays

    return make


def bring(models: Models, *names: str) -> AnyModel:
    """Each in turn while nothing is in use, and the last one's model."""
    for name in names:
        if models.get(name) is None:
            models.add(name, models.load(name).result(60))
    model = models.get(names[-1])
    assert model is not None
    return model


def png(model: AnyModel, request: GenerationRequest = REQUEST) -> list[bytes]:
    return [image.tobytes() for image in Pipeline(model).generate(request).images]


def test_models_stay_while_they_fit_and_the_least_recently_used_makes_room(
    make: Callable[..., Models], reads: list[str]
) -> None:
    models = make(2.5)
    bring(models, "a", "b", "a", "b", "a")
    assert reads == ["a", "b"]
    bring(models, "c")
    assert models.loaded == ("a", "c")
    bring(models, "b")
    assert models.loaded == ("c", "b") and reads == ["a", "b", "c", "b"]


def test_a_model_rests_in_main_memory_and_comes_back_bit_for_bit(make: Callable[..., Models], reads: list[str]) -> None:
    models = make(1.5, 2.5)
    model = bring(models, "a")
    drawn = png(model)
    assert bring(models, "b", "c", "a") is model
    assert png(model) == drawn
    assert reads == ["a", "b", "c"] and models.loaded == ("a",)


def test_main_memory_holds_what_left_last(make: Callable[..., Models], reads: list[str]) -> None:
    models = make(1.5, 1.5)
    bring(models, "a", "b", "c", "b")
    assert reads == ["a", "b", "c"]
    bring(models, "a")
    assert reads == ["a", "b", "c", "a"]


def test_copies_of_models_on_the_device_count_and_go_before_models_at_rest(
    make: Callable[..., Models], size: int, reads: list[str]
) -> None:
    models = make(2.5, 2)
    bring(models, "a", "b", "c", "a")
    assert models.resting_bytes == 2 * size  # b, and the copy of a
    bring(models, "d", "b")
    assert reads == ["a", "b", "c", "d"]
    for name in "abcd" * 2:
        bring(models, name)
        assert models.resting_bytes <= 2 * size


def test_whoever_is_busy_stays_and_whoever_needs_the_room_waits(make: Callable[..., Models]) -> None:
    models = make(2.5)
    bring(models, "a", "b")
    coming = models.load("c", busy=frozenset("ab"))
    models.settle(frozenset("ab"))
    assert models.loaded == ("a", "b") and not coming.running() and not coming.done()
    # The first to have been used leaves as soon as it can; the other goes on taking requests.
    assert models.get("a") is None
    assert models.get("b") is not None
    models.settle(frozenset("b"))
    models.add("c", coming.result(60))
    assert models.loaded == ("b", "c")


def test_requests_for_a_model_that_has_to_leave_wait_behind_those_it_leaves_for(make: Callable[..., Models]) -> None:
    models = make(1.5, 1.5)
    model = bring(models, "a")
    first = models.load("b", busy=frozenset("a"))
    again = models.load("a", busy=frozenset("a"))
    models.settle(NOBODY)
    models.add("b", first.result(60))
    models.settle(frozenset("b"))
    assert not again.done() and models.loaded == ("b",)
    models.settle(NOBODY)
    assert again.result(60) is model


def test_a_model_larger_than_the_budget_is_loaded_when_everything_else_has_left(make: Callable[..., Models]) -> None:
    models = make(0.5)
    bring(models, "a")
    coming = models.load("b", busy=frozenset("a"))
    assert not coming.done() and models.loaded == ("a",)
    models.settle(NOBODY)
    models.add("b", coming.result(60))
    assert models.loaded == ("b",)


def test_two_loads_that_do_not_fit_together_come_one_after_the_other(make: Callable[..., Models]) -> None:
    models = make(1.5)
    first, second = models.load("a"), models.load("b")
    first.result(60)
    models.settle(NOBODY)
    assert not second.done()
    models.add("a", first.result())
    models.settle(NOBODY)
    models.add("b", second.result(60))
    assert models.loaded == ("b",)


def test_a_prefetch_uses_the_room_beside_those_in_use_and_is_otherwise_ignored(make: Callable[..., Models]) -> None:
    models = make(2.5)
    bring(models, "a", "b")
    assert models.prefetch("c", busy=frozenset("ab")) is None
    assert models.prefetch("a", busy=NOBODY) is None
    assert models.prefetch("none such", busy=NOBODY) is None
    assert models.loaded == ("a", "b") and models.get("a") is not None
    coming = models.prefetch("c", busy=frozenset("a"))
    assert coming is not None and models.prefetch("c", busy=frozenset("a")) is None
    models.add("c", coming.result(60))
    assert models.loaded == ("a", "c")
    models.load("b", busy=frozenset("ac"))
    assert models.prefetch("damaged", busy=NOBODY) is None  # somebody waits for the room


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("full"), MemoryError()])
def test_a_load_that_fails_says_why_and_holds_no_room(
    make: Callable[..., Models], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    models = make(1.5)
    with pytest.raises(CheckpointError, match="damaged"):
        models.load("damaged").result(60)
    with pytest.raises(CheckpointError, match="no checkpoint 'none such'; there is embedded, a, b"):
        models.load("none such")
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "load", lambda path, **options: (_ for _ in ()).throw(error))
        with pytest.raises(EngineError, match="not enough memory to load a") as raised:
            models.load("a").result(60)
    assert raised.value.code == "memory" and raised.value.retryable
    bring(models, "b")
    assert models.loaded == ("b",)


def test_three_checkpoints_with_interleaved_requests_are_read_once_each(
    make: Callable[..., Models], folder: Path, reads: list[str]
) -> None:
    alone = png(checkpoints.load(folder / "a", device="cpu"))
    reads.clear()
    models, events = make(1.5, 2.5), list[Event]()
    loop = StepLoop(models, events.append, row_cap=16)
    names = [name for _ in range(4) for name in "abc"]
    for index, name in enumerate(names):
        loop.submit(Submit(request_id=f"{index}", checkpoint=name, request=REQUEST, preview_every=0))
    loop.drain()
    loop.run()
    ended = [event for event in events if isinstance(event, RequestEvent)]
    assert sum(isinstance(event, Done) for event in ended) == len(names)
    assert sorted(reads) == ["a", "b", "c"]
    pictures: dict[str, list[bytes]] = {}
    for event in ended:
        if isinstance(event, ImageReady):
            pictures.setdefault(event.request_id, []).append(event.png)
    assert len({tuple(own) for own in pictures.values()}) == 1 and len(alone) == len(pictures["0"])


# --- one model's weights ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["sd", "sdxl", "sd3", "flux"])
def test_every_family_draws_the_same_after_a_rest(family: str, saved: Callable[[str], Path]) -> None:
    request = GenerationRequest(prompt="a red apple", seed=7, steps=2, width=64, height=64)
    model = checkpoints.load(saved(family), device="cpu")
    drawn = png(model, request)
    residence = Residence(model)
    for _ in range(2):
        residence.park()
        assert residence.restore() is model
        assert png(model, request) == drawn
    resting = {copy.data_ptr() for copy in residence._copies.values()}
    assert resting.isdisjoint(weight.data_ptr() for weight in weights(model.modules()).values())
    assert residence.copied == residence.size == residence.measure()


def test_what_was_copied_once_is_copied_again_only_where_it_changed(saved: Callable[[str], Path]) -> None:
    model = checkpoints.load(saved("sdxl"), device="cpu", dtype="bfloat16")
    assert isinstance(model, LatentModel)
    residence = Residence(model)
    residence.park()
    residence.restore()
    before = {name: copy.data_ptr() for name, copy in residence._copies.items()}
    model.text_encoders[0].float()  # as an autoencoder is that overflows
    residence.park()
    moved = {name for name, copy in residence._copies.items() if copy.data_ptr() != before[name]}
    assert moved and all(residence._copies[name].dtype == torch.float32 for name in moved)
    residence.restore()
    assert {weight.dtype for weight in model.text_encoders[0].parameters()} == {torch.float32}


def test_a_model_for_which_main_memory_has_no_room_is_dropped(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    residence = Residence(checkpoints.load(folder / "a", device="cpu"))
    monkeypatch.setattr("t2i.engine.residence.CHUNK", 2**60)
    residence.park()
    assert residence.restore() is None
    assert "no room" in caplog.text


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_rest_frees_the_graphics_card_and_the_way_back_is_from_pinned_memory(saved: Callable[[str], Path]) -> None:
    request = GenerationRequest(prompt="a red apple", seed=7, steps=2, width=64, height=64)
    model = checkpoints.load(saved("sdxl"), device="cuda", dtype="float32")
    drawn, residence = png(model, request), Residence(model)
    taken = torch.cuda.memory_allocated()
    residence.park()
    assert torch.cuda.memory_allocated() <= taken - residence.size
    assert all(copy.is_pinned() for copy in residence._copies.values())
    residence.restore()
    assert png(model, request) == drawn


# --- budgets ----------------------------------------------------------------------------------------------------------


def test_budgets_come_from_the_machine_and_a_cpu_has_one_level_only() -> None:
    cpu = torch.device("cpu")
    assert 2**29 < main_memory() < 2**50
    assert default_device_budget(cpu) == main_memory() // 2
    assert default_memory_budget(cpu) == 0


def test_a_container_s_limit_counts_as_the_machine_s_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr("t2i.engine.models._CGROUP_LIMITS", (limit,))
    unlimited = main_memory()
    limit.write_text("max\n")
    assert main_memory() == unlimited
    limit.write_text("1000000\n")
    assert main_memory() == 1_000_000


# --- memory over time -------------------------------------------------------------------------------------------------

SWITCHES = """
import gc, json, sys
import psutil, torch
from pathlib import Path
from t2i.api import GenerationRequest, Hardware
from t2i.engine.models import Models
from t2i.pipeline import Pipeline

torch.set_num_threads(1)
folder = Path(sys.argv[1])
names = sorted(path.name for path in folder.iterdir())

def switch(models, name):
    model = models.load(name).result()
    models.add(name, model)
    Pipeline(model).generate(GenerationRequest(prompt="a cat", steps=1, seed=1, width=64, height=64))

def modules():
    return sum(issubclass(type(found), torch.nn.Module) for found in gc.get_objects())

for memory_budget in (0, 10**9):
    models = Models(folder, Hardware(device="cpu"), device_budget=1, memory_budget=memory_budget)
    resident, alive = [], []
    for index in range(26):
        switch(models, names[index % len(names)])
        if index >= 5:
            resident.append(psutil.Process().memory_info().rss)
            alive.append(modules())
    print(json.dumps({"growth": resident[-1] / resident[0] - 1, "modules": [max(alive[:3]), max(alive)]}))
"""


def test_memory_stays_bounded_over_twenty_switches_from_disk_and_as_many_from_main_memory(
    checkpoints_dir: Path, saved: Callable[[str], Path], tmp_path: Path
) -> None:
    for name, source in (("cascade", checkpoints_dir / "tiny"), ("flux", saved("flux")), ("sdxl", saved("sdxl"))):
        (tmp_path / name).symlink_to(source)
    command = [sys.executable, "-c", SWITCHES, str(tmp_path)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    measured = [json.loads(line) for line in output.splitlines()]
    assert len(measured) == 2
    for figures in measured:
        assert figures["growth"] < 0.05
        warm, later = figures["modules"]
        assert later == warm
