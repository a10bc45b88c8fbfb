"""Errands, one after the other on a thread of their own: each tells how it goes and ends with one word."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue

import pytest

from t2i.api import Accomplished, Add, Advanced, Cancelled, Event, Failed, Remove, Shelved, Verify
from t2i.engine.keeper import Keeper


class Errands:
    """A keeper whose first word of progress can be held back, so that it is at work for as long as a test likes."""

    def __init__(self, folder: Path | None) -> None:
        self.events: SimpleQueue[Event] = SimpleQueue()
        self.go_on = threading.Event()
        self.go_on.set()
        self.removed: list[str] = []
        self.keeper = Keeper(folder, self._hear, self.removed.append)

    def _hear(self, event: Event) -> None:
        self.events.put(event)
        if isinstance(event, Advanced):
            assert self.go_on.wait(60)

    def ends(self) -> tuple[list[Event], Event]:
        """What was told of the next errand, and how it ended."""
        told: list[Event] = []
        while not isinstance(event := self.events.get(timeout=60), Accomplished | Failed | Cancelled):
            told.append(event)
        return told, event


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints"


@pytest.fixture
def errands(folder: Path) -> Iterator[Errands]:
    errands = Errands(folder)
    yield errands
    errands.go_on.set()


def test_what_is_added_is_on_the_shelf_before_it_is_told(
    errands: Errands, saved: Callable[[str], Path], folder: Path
) -> None:
    errands.keeper.run(Add(request_id="1", source=str(saved("sd")), name="mine", anywhere=True))
    told, ended = errands.ends()
    assert ended == Accomplished(request_id="1", name="mine")
    stages = dict.fromkeys(event.stage for event in told if isinstance(event, Advanced))
    assert list(stages) == ["checking", "copying", "hashing"]
    assert isinstance(told[-1], Shelved) and "mine" in [info.name for info in told[-1].shelf.checkpoints]
    errands.keeper.run(Remove(request_id="2", name="mine"))
    assert errands.ends()[1] == Accomplished(request_id="2", name="mine")
    assert errands.removed == ["mine"] and list(folder.iterdir()) == []


def test_only_names_and_hub_ids_are_looked_at_unless_any_path_may_be(
    errands: Errands, saved: Callable[[str], Path]
) -> None:
    for source in (str(saved("sd")), "../mine", "."):
        errands.keeper.run(Add(request_id="1", source=source))
        ended = errands.ends()[1]
        assert isinstance(ended, Failed) and "neither the name of something" in ended.message


def test_an_errand_that_is_called_off_adds_nothing_and_the_next_one_goes_on(
    errands: Errands, saved: Callable[[str], Path], folder: Path
) -> None:
    errands.go_on.clear()
    errands.keeper.run(Add(request_id="1", source=str(saved("sd")), name="first", anywhere=True))
    errands.keeper.run(Add(request_id="2", source=str(saved("sd")), name="second", anywhere=True))
    errands.keeper.run(Verify(request_id="3", checkpoint="embedded"))
    for request_id in ("1", "2", "unknown"):
        errands.keeper.cancel(request_id)
    errands.go_on.set()
    assert [errands.ends()[1] for _ in range(3)] == [
        Cancelled(request_id="1"),
        Cancelled(request_id="2"),
        Accomplished(request_id="3", name="embedded"),
    ]
    assert not folder.exists() or list(folder.iterdir()) == []


def test_without_a_folder_files_can_be_verified_but_not_added() -> None:
    errands = Errands(None)
    errands.keeper.run(Verify(request_id="1", checkpoint="embedded"))
    assert isinstance(errands.ends()[1], Accomplished)
    errands.keeper.run(Add(request_id="2", source="org/name"))
    ended = errands.ends()[1]
    assert isinstance(ended, Failed) and "There is no folder of checkpoints" in ended.message
