"""What the client does about a worker that crashes, falls silent or speaks another language.

A fake worker misbehaves, because the real one will not; `test_worker.py` meets the real one.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import aclosing
from pathlib import Path

import pytest

from t2i.api import (
    PROTOCOL_VERSION,
    Admitted,
    EngineCrashed,
    EngineError,
    GenerationRequest,
    Heartbeat,
    Hello,
    Shelf,
)
from t2i.engine.client import LocalEngine, Supervision
from t2i.engine.watchdog import Watchdog

FAKE_WORKER = Path(__file__).with_name("fake_worker.py")
REQUEST = GenerationRequest(prompt="a red apple")


class FakeEngine(LocalEngine):
    def __init__(self, behaviour: str, folder: Path, supervision: Supervision) -> None:
        super().__init__(supervision=supervision)
        self.behaviour = behaviour
        self.notes = folder / "notes"

    def _command(self) -> Sequence[str]:
        return [sys.executable, str(FAKE_WORKER), self.behaviour, str(self.notes)]


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - the conditions are the engine's public state
            await asyncio.sleep(0.01)


async def started(engine: LocalEngine) -> None:
    await engine.start()
    async with asyncio.timeout(20):
        await engine.wait_ready()


def at_rest(engine: LocalEngine) -> bool:
    return engine.problem is not None and "keeps stopping" in engine.problem


async def refusal(engine: LocalEngine) -> EngineError:
    with pytest.raises(EngineError) as raised:
        await anext(engine.run(REQUEST, request_id="1", checkpoint="embedded"))
    return raised.value


async def test_a_request_before_the_start_is_refused_with_a_sentence() -> None:
    engine = LocalEngine()
    assert engine.slots() == 0
    assert str(await refusal(engine)) == "The image engine is not started."


async def test_the_circuit_opens_after_five_crashes_and_requests_are_refused(tmp_path: Path) -> None:
    engine = FakeEngine("crash", tmp_path, Supervision(pauses=(0, 0, 0, 0)))
    await engine.start()
    await until(lambda: at_rest(engine))
    assert engine.notes.read_text().splitlines() == ["started"] * 5
    assert engine.slots() == 0
    error = await refusal(engine)
    assert error.retryable and str(error).startswith("The image engine keeps stopping")
    await engine.close()


async def test_an_open_circuit_closes_by_itself(tmp_path: Path) -> None:
    engine = FakeEngine("crash once", tmp_path, Supervision(pauses=(), window=1.0))
    await engine.start()
    await until(lambda: at_rest(engine))
    async with asyncio.timeout(20):
        await engine.wait_ready()
    assert engine.slots() == 2
    await engine.close()


@pytest.mark.parametrize(
    ("behaviour", "start", "reason"),
    [
        ("crash", 20, "exit code 3"),
        ("explain", 20, "The checkpoint is damaged."),
        ("old release", 20, f"version {PROTOCOL_VERSION - 1} of the engine protocol"),
        ("too much", 20, "over the limit"),
        ("never ready", 0.5, "said nothing for 0.5 s"),
    ],
)
async def test_a_worker_that_cannot_work_is_ended_and_the_log_says_why(
    behaviour: str, start: float, reason: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine = FakeEngine(behaviour, tmp_path, Supervision(start=start, pauses=()))
    await engine.start()
    await until(lambda: at_rest(engine))
    assert reason in caplog.text
    assert engine.pid is None
    await engine.close()


async def test_a_worker_that_falls_silent_is_killed_and_its_requests_end(tmp_path: Path) -> None:
    engine = FakeEngine("fall silent", tmp_path, Supervision(silence=0.5))
    await started(engine)
    pid = engine.pid
    assert pid is not None
    with pytest.raises(EngineCrashed):
        await anext(engine.run(REQUEST, request_id="1", checkpoint="embedded"))
    await until(lambda: engine.pid is None)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    await engine.close()


async def test_a_worker_that_hangs_in_a_step_is_killed_and_its_requests_may_be_tried_again(tmp_path: Path) -> None:
    engine = FakeEngine("hang", tmp_path, Supervision(stall=30))
    await started(engine)
    with pytest.raises(EngineCrashed) as raised:
        await anext(engine.run(REQUEST, request_id="1", checkpoint="embedded"))
    assert raised.value.retryable
    await engine.close()


def hear(stall: float | None, device: str, ticks: Iterable[int], *, busy: bool = True) -> None:
    hello = Hello(version=PROTOCOL_VERSION, device=device, capacity=2, shelf=Shelf(), loaded=())
    watchdog = Watchdog(hello, stall)
    for tick in ticks:
        watchdog.hear(Heartbeat(ticks=tick, busy=busy))


def test_a_worker_may_be_slow_and_wait_for_a_checkpoint_as_long_as_it_likes() -> None:
    hear(120, "cuda:0", (second // 100 for second in range(5000)))
    hear(120, "cuda:0", [0] * 5000, busy=False)
    # Ten times the longest step before is no reason for alarm yet.
    hear(120, "cuda:0", [0] * 100 + [1] * 900)


@pytest.mark.parametrize(("device", "seconds"), [("cuda:0", 120), ("mps", 120), ("cpu", 600)])
def test_a_step_may_take_two_minutes_and_ten_on_a_cpu(device: str, seconds: int) -> None:
    hear(None, device, [0] * seconds)
    with pytest.raises(EngineError, match=f"in one step for {seconds + 1} s"):
        hear(None, device, [0] * (seconds + 1))


async def test_a_prefetch_reaches_the_worker_and_goes_nowhere_while_there_is_none(tmp_path: Path) -> None:
    engine = FakeEngine("obey", tmp_path, Supervision())
    await engine.prefetch("other")
    await started(engine)
    await engine.prefetch("next")
    await until(lambda: "prefetched" in engine.notes.read_text())
    assert engine.notes.read_text().splitlines() == ["started", "prefetched next"]
    await engine.close()


async def test_slots_count_requests_and_closing_ends_them_and_whoever_waits(tmp_path: Path) -> None:
    engine = FakeEngine("fall silent", tmp_path, Supervision())
    await started(engine)
    running = asyncio.create_task(anext(engine.run(REQUEST, request_id="1", checkpoint="embedded")))
    await until(lambda: engine.slots() == 1)
    with pytest.raises(ValueError, match="in flight already"):
        await anext(engine.run(REQUEST, request_id="1", checkpoint="embedded"))
    await engine.close()
    with pytest.raises(EngineCrashed):
        await running
    with pytest.raises(EngineError, match="stopped"):
        await engine.wait_ready()


async def test_leaving_the_iterator_early_frees_the_slot_and_cancels_the_request(tmp_path: Path) -> None:
    engine = FakeEngine("obey", tmp_path, Supervision())
    await started(engine)
    async with aclosing(engine.run(REQUEST, request_id="17", checkpoint="embedded")) as events:
        assert isinstance(await anext(events), Admitted)
        assert engine.slots() == 1
    assert engine.slots() == 2
    await until(lambda: "cancelled 17" in engine.notes.read_text())
    await engine.close()


def test_the_client_never_imports_torch() -> None:
    code = "import sys, t2i.engine.client; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
