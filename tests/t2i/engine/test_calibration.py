"""What a batch is worth: measured on a device with a simulated clock, remembered, and measured anew after changes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from torch import Tensor

from t2i import checkpoints
from t2i.api import Done, Event, GenerationRequest, Hardware, ImageReady, Progress, Submit
from t2i.engine import runner
from t2i.engine.calibration import Calibration, Key, Profile
from t2i.engine.loop import StepLoop
from t2i.engine.models import Models
from t2i.engine.sequence import Kind
from t2i.families.model import Model, Rows

pytestmark = pytest.mark.usefixtures("one_thread")

BASE = Kind("base", (4, 16, 16))
UPSAMPLER = Kind("upsampler", (4, 64, 64))


def saturated(rows: int) -> float:
    return 0.05 * rows


def launch_bound(rows: int) -> float:
    return 0.02


def between(rows: int) -> float:
    return 0.03 + 0.026 * rows


class Timed:
    """A model on a device whose forwards take `seconds` of their rows by its own clock."""

    def __init__(self, model: Model, seconds: Callable[[int], float]) -> None:
        self._model = model
        self._seconds = seconds
        self.info = model.info
        self.now = 0.0
        self.forwards: list[tuple[str, int]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def predict(self, rows: Rows) -> Tensor:
        self.forwards.append((rows.stage, len(rows.latents)))
        self.now += self._seconds(len(rows.latents))
        return torch.zeros_like(rows.latents)

    def clock(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def model(checkpoints_dir: Path) -> Model:
    return checkpoints.load(checkpoints_dir / "tiny", "cpu")


def calibrated(model: Timed, folder: Path | None = None, **options: Any) -> Calibration:
    calibration = Calibration(folder, clock=model.clock, **{"most_rows": 64} | options)
    calibration.welcome("tiny", model)
    while calibration.measure(["tiny"]):
        pass
    return calibration


def best(calibration: Calibration, model: Any, kind: Kind = BASE) -> int:
    profile = calibration.profile(Key.of(model, kind))
    assert profile is not None
    return profile.best


@pytest.mark.parametrize(("seconds", "rows", "free"), [(saturated, 1, 1), (launch_bound, 64, 64), (between, 16, 1)])
def test_as_few_rows_are_best_as_come_close_to_the_best_time_of_a_row(
    model: Model, seconds: Callable[[int], float], rows: int, free: int
) -> None:
    timed = Timed(model, seconds)
    profile = calibrated(timed).profile(Key.of(timed, BASE))
    assert profile is not None
    assert (profile.best, profile.free) == (rows, free)


def test_measuring_ends_where_larger_batches_gain_nothing(model: Model) -> None:
    timed = Timed(model, saturated)
    calibrated(timed)
    assert max(rows for _, rows in timed.forwards) == 3


def test_measuring_ends_with_its_budget(model: Model) -> None:
    timed = Timed(model, lambda rows: 60.0)
    calibration = calibrated(timed, budget=50.0)
    assert timed.forwards.count(("base", 1)) == 1
    assert best(calibration, timed) == 1


def test_a_device_that_others_slow_down_now_and_then_is_measured_as_if_they_did_not(model: Model) -> None:
    calls = iter(range(10**6))
    timed = Timed(model, lambda rows: between(rows) * (3 if next(calls) % 7 == 0 else 1))
    assert best(calibrated(timed), timed) == 16


def test_all_stages_of_what_is_drawn_by_default_are_measured_after_loading(model: Model) -> None:
    timed = Timed(model, between)
    calibration = calibrated(timed)
    assert calibration.profile(Key.of(timed, BASE)) and calibration.profile(Key.of(timed, UPSAMPLER))


def test_memory_that_runs_out_ends_measuring_and_keeps_what_is_known(model: Model) -> None:
    def seconds(rows: int) -> float:
        if rows > 4:
            raise torch.OutOfMemoryError("no room")
        return 0.02

    timed = Timed(model, seconds)
    assert best(calibrated(timed), timed) == 4


def test_what_was_measured_is_not_measured_again(model: Model, tmp_path: Path) -> None:
    first = Timed(model, between)
    calibrated(first, tmp_path)
    second = Timed(model, launch_bound)
    assert best(calibrated(second, tmp_path), second) == best(calibrated(first, tmp_path), first) == 16
    assert {rows for _, rows in second.forwards} <= {1, 2}  # the look for examples


@pytest.mark.parametrize(
    "change",
    [
        {"checkpoint_sha256": "0" * 64},
        {"stage": "upsampler"},
        {"shape": (4, 32, 32)},
        {"dtype": "torch.float16"},
        {"device": "another"},
        {"torch": "2.0.0"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_it_is_measured_again_when_anything_changes_that_it_depends_on(
    model: Model, tmp_path: Path, change: dict[str, Any]
) -> None:
    timed = Timed(model, between)
    key = Key.of(timed, BASE)
    calibrated(timed, tmp_path)
    (file,) = (file for file in tmp_path.iterdir() if json.loads(file.read_text())["key"]["stage"] == "base")
    for other in set(tmp_path.iterdir()) - {file}:
        other.unlink()
    fresh = Calibration(tmp_path, most_rows=64)
    assert fresh.profile(key) == Profile({int(k): v for k, v in json.loads(file.read_text())["seconds"].items()})
    assert fresh.profile(replace(key, **change)) is None


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", '{"key": {}, "seconds": {"1": 1}}', "damaged seconds", "no one", "not utf-8"]
)
def test_a_damaged_file_is_as_good_as_none(model: Model, tmp_path: Path, content: str) -> None:
    timed = Timed(model, between)
    calibrated(timed, tmp_path)
    key = Key.of(timed, BASE)
    for file in tmp_path.iterdir():
        written = json.loads(file.read_text())
        match content:
            case "damaged seconds":
                file.write_text(json.dumps(written | {"seconds": {"1": -1.0}}))
            case "no one":
                file.write_text(json.dumps(written | {"seconds": {"2": 1.0}}))
            case "not utf-8":
                file.write_bytes(b"\xff\xfe\x00")
            case _:
                file.write_text(content)
    assert Calibration(tmp_path, most_rows=64).profile(key) is None
    again = Timed(model, between)
    assert best(calibrated(again, tmp_path), again) == 16


def test_a_folder_that_cannot_be_written_does_no_harm(model: Model, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    timed = Timed(model, between)
    assert best(calibrated(timed, tmp_path / "file" / "below"), timed) == 16


def test_a_model_that_left_its_device_is_not_asked(model: Model) -> None:
    timed = Timed(model, between)
    calibration = Calibration(None, most_rows=64, clock=timed.clock)
    calibration.welcome("tiny", timed)
    assert calibration.measure(["tiny"])
    before = len(timed.forwards)
    assert not calibration.measure(["another"])
    assert len(timed.forwards) == before


@pytest.fixture
def loop(model: Model, checkpoints_dir: Path, tmp_path: Path) -> Iterator[tuple[StepLoop, Timed, list[Event]]]:
    timed = Timed(model, saturated)
    events: list[Event] = []
    models = Models(checkpoints_dir, Hardware(device="cpu"))
    models.add("tiny", timed)
    steps = StepLoop(models, events.append, row_cap=16, calibration=Calibration(None, most_rows=16, clock=timed.clock))
    yield steps, timed, events


def test_a_request_waits_for_one_forward_of_measuring_at_most(
    loop: tuple[StepLoop, Timed, list[Event]], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, timed, events = loop
    request = GenerationRequest(prompt="a cat", images=2, seed=1, width=16, steps=3)
    predict, asked_after = timed.predict, 4

    def watched(rows: Rows) -> Tensor:
        output = predict(rows)
        if len(timed.forwards) == asked_after:
            steps.submit(Submit(request_id="a", checkpoint="tiny", request=request, preview_every=0))
            steps.drain()
        return output

    monkeypatch.setattr(timed, "predict", watched)
    steps.run()
    assert isinstance(events[-1], Done)
    assert timed.forwards[asked_after:] == [("base", 4)] * 3


def test_on_a_saturated_device_requests_share_no_forward_once_that_is_known(
    loop: tuple[StepLoop, Timed, list[Event]], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, timed, events = loop
    measure = Calibration.measure

    def then_submit(calibration: Calibration, present: Any) -> bool:
        if measure(calibration, present):
            return True
        timed.forwards.clear()
        for request_id in ("a", "b"):
            request = GenerationRequest(prompt="a cat", seed=1, width=16, steps=3)
            steps.submit(Submit(request_id=request_id, checkpoint="tiny", request=request, preview_every=0))
        steps.drain()
        return False

    monkeypatch.setattr(Calibration, "measure", then_submit)
    steps.run()
    assert timed.forwards == [("base", 2)] * 6
    order = [event.request_id for event in events if isinstance(event, Progress)]
    assert order == ["a"] * 3 + ["b"] * 3


def test_measuring_changes_no_picture(model: Model) -> None:
    request = GenerationRequest(prompt="a cat", images=2, seed=1, width=64, steps=3)

    def drawn() -> list[ImageReady]:
        job = runner.admit(model, request, "a")
        while not job.finished:
            runner.step(model, [job])
        return runner.results(model, job)

    before = drawn()
    calibration = Calibration(None, most_rows=4)
    calibration.welcome("tiny", model)
    job = runner.admit(model, request, "b")
    while not job.finished:
        calibration.notice("tiny", model, job)
        calibration.measure(["tiny"])
        runner.step(model, [job])
    after = [msgspec.structs.replace(image, request_id="a") for image in runner.results(model, job)]
    assert after == before == drawn()
