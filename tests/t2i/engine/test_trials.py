"""A checkpoint on trial: read anew beside the model that draws, and kept or dropped as if nothing had been."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue

import pytest
import torch
from safetensors.torch import load_file, save_file

from t2i.api import Done, Event, Failed, GenerationRequest, Hardware, ImageReady, Loaded, Progress, Submit
from t2i.checkpoints import tiny
from t2i.engine.loop import StepLoop
from t2i.engine.models import Models

APPLE = GenerationRequest(prompt="a red apple", seed=7, width=16, steps=2)
LONG = GenerationRequest(prompt="a red apple", seed=7, width=16, steps=40)

pytestmark = pytest.mark.usefixtures("one_thread")


class Engine:
    """A step loop on a thread of its own."""

    def __init__(self, folder: Path, device_budget: int | None = None) -> None:
        self.folder = folder
        self.seen: list[Event] = []
        self._events: SimpleQueue[Event] = SimpleQueue()
        models = Models(folder, Hardware(device="cpu", dtype="float32"), device_budget=device_budget, memory_budget=0)
        self.steps = StepLoop(models, self._events.put, row_cap=16)
        self._thread = threading.Thread(target=self.steps.run)
        self._thread.start()

    def close(self) -> None:
        self.steps.drain()
        self._thread.join()

    def submit(self, request_id: str, request: GenerationRequest = APPLE, *, trial: bool = False) -> None:
        self.steps.submit(Submit(request_id=request_id, checkpoint="tiny", request=request, trial=trial))

    def until(self, told: Callable[[Event], bool]) -> Event:
        while not told(event := self._events.get(timeout=60)):
            self.seen.append(event)
        self.seen.append(event)
        return event

    def ended(self, request_id: str) -> Done | Failed:
        over = next((e for e in self.seen if isinstance(e, Done | Failed) and e.request_id == request_id), None)
        event = over or self.until(lambda e: isinstance(e, Done | Failed) and e.request_id == request_id)
        assert isinstance(event, Done | Failed)
        return event

    def picture(self, request_id: str) -> bytes:
        assert isinstance(self.ended(request_id), Done)
        return next(e.png for e in self.seen if isinstance(e, ImageReady) and e.request_id == request_id)

    def draw(self, request_id: str, *, trial: bool = False) -> bytes:
        self.submit(request_id, trial=trial)
        return self.picture(request_id)

    def settle(self, *, keep: bool) -> Loaded:
        self.steps.settle("tiny", keep=keep)
        loaded = self.until(lambda event: isinstance(event, Loaded))
        assert isinstance(loaded, Loaded)
        return loaded


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the same shape with other weights."""
    return tiny.build(tmp_path_factory.mktemp("others") / "tiny", seed=5)


@pytest.fixture
def folder(checkpoints_dir: Path, tmp_path: Path) -> Path:
    shutil.copytree(checkpoints_dir / "tiny", tmp_path / "tiny")
    return tmp_path


@pytest.fixture
def engine(folder: Path) -> Iterator[Engine]:
    engine = Engine(folder)
    yield engine
    engine.close()


def replace(folder: Path, by: Path) -> None:
    shutil.rmtree(folder)
    shutil.copytree(by, folder)


def spoil(file: Path, name: str, value: float) -> None:
    """Set one tensor of a weight file to a number."""
    weights = load_file(file)
    weights[name] = torch.full_like(weights[name], value)
    save_file(weights, file)


def test_what_is_tried_is_met_by_nobody_until_it_is_kept(engine: Engine, others: Path) -> None:
    before = engine.draw("before")
    replace(engine.folder / "tiny", others)
    tried = engine.draw("tried", trial=True)
    assert engine.draw("meanwhile") == before != tried
    assert engine.settle(keep=True).checkpoints == ("tiny",)
    assert engine.draw("after") == tried


def test_what_is_dropped_leaves_everything_as_it_was(engine: Engine, others: Path, checkpoints_dir: Path) -> None:
    before = engine.draw("before")
    replace(engine.folder / "tiny", others)
    assert engine.draw("tried", trial=True) != before
    assert engine.settle(keep=False).checkpoints == ("tiny",)
    assert engine.draw("after") == before
    # A second trial reads what lies there then.
    replace(engine.folder / "tiny", checkpoints_dir / "tiny")
    assert engine.draw("tried again", trial=True) == before


def test_requests_in_flight_end_on_the_model_they_began_with(engine: Engine, others: Path) -> None:
    engine.submit("undisturbed", LONG)
    undisturbed = engine.picture("undisturbed")
    engine.submit("disturbed", LONG)
    engine.until(lambda event: isinstance(event, Progress) and event.request_id == "disturbed")
    engine.steps.pause("disturbed")
    replace(engine.folder / "tiny", others)
    tried = engine.draw("tried", trial=True)
    engine.settle(keep=True)
    assert engine.draw("after") == tried
    engine.steps.resume("disturbed")
    assert engine.picture("disturbed") == undisturbed


def test_with_room_for_one_model_only_the_running_one_drains_and_comes_back(folder: Path) -> None:
    engine = Engine(folder, device_budget=1)
    try:
        before = engine.draw("before")
        engine.submit("in flight", LONG)
        engine.until(lambda event: isinstance(event, Progress) and event.request_id == "in flight")
        engine.submit("tried", trial=True)
        engine.ended("tried")
        assert any(isinstance(event, Done) and event.request_id == "in flight" for event in engine.seen)
        assert engine.settle(keep=False).checkpoints == ()
        assert engine.draw("after") == before
    finally:
        engine.close()


def test_a_damaged_checkpoint_fails_its_trial_and_harms_nobody(engine: Engine) -> None:
    before = engine.draw("before")
    weights = next((engine.folder / "tiny" / "base").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1])
    engine.submit("tried", trial=True)
    failed = engine.ended("tried")
    assert isinstance(failed, Failed) and failed.code == "checkpoint"
    engine.settle(keep=False)
    assert engine.draw("after") == before


@pytest.mark.parametrize(
    ("weight", "value", "sentence"),
    [
        ("vae/decoder.conv_out.weight", 0.0, "draws nothing but one colour"),
        ("unet/conv_out.bias", float("nan"), "noise the model could not resolve"),
    ],
)
def test_weights_that_draw_nothing_fail_their_trial(
    saved: Callable[[str], Path], tmp_path: Path, weight: str, value: float, sentence: str
) -> None:
    shutil.copytree(saved("sd"), tmp_path / "tiny")
    part, _, tensor = weight.partition("/")
    spoil(tmp_path / "tiny" / part / "diffusion_pytorch_model.safetensors", tensor, value)
    engine = Engine(tmp_path)
    try:
        engine.submit("tried", GenerationRequest(prompt="a red apple", seed=7, steps=2), trial=True)
        failed = engine.ended("tried")
        assert isinstance(failed, Failed) and failed.code == "numerics" and sentence in failed.message
    finally:
        engine.close()
