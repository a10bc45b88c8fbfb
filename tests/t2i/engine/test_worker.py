"""The real worker process over its real socket, drawing with a tiny untrained checkpoint."""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import signal
import socket
import struct
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
import psutil
import pytest
import pytest_asyncio
from PIL import Image

from t2i.api import (
    PROTOCOL_VERSION,
    Admitted,
    Cancelled,
    Done,
    EngineCrashed,
    EngineError,
    Event,
    Failed,
    Fatal,
    GenerationRequest,
    Hardware,
    Heartbeat,
    Hello,
    ImageReady,
    Progress,
    RequestEvent,
    Submit,
)
from t2i.engine import protocol
from t2i.engine.client import LocalEngine, Supervision

APPLE = GenerationRequest(prompt="a red apple", images=4, seed=7, width=16, height=16, steps=12)
TREE = GenerationRequest(prompt="a green tree", images=2, seed=1, width=16, height=16, steps=9, guidance_scale=1.0)
LONG = GenerationRequest(prompt="a long road", images=4, width=64, height=64, steps=200)
"""Some seconds of work, so that it is still under way when a test interferes."""

together = pytest.mark.asyncio(loop_scope="module")
"""For tests that share one worker, and therefore one event loop."""


@pytest.fixture(scope="module")
def several_checkpoints(checkpoints_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("several")
    for name in ("tiny", "second", "third", "damaged"):
        shutil.copytree(checkpoints_dir / "tiny", folder / name)
    weights = next((folder / "damaged" / "base").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1])
    return folder


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(several_checkpoints: Path) -> AsyncIterator[LocalEngine]:
    engine = LocalEngine(
        checkpoints_dir=several_checkpoints,
        default="tiny",
        hardware=Hardware(device="cpu"),
        supervision=Supervision(pauses=(0.05,) * 4),
    )
    await engine.start()
    async with asyncio.timeout(60):
        await engine.wait_ready()
    yield engine
    await engine.close()


async def draw(
    engine: LocalEngine,
    request: GenerationRequest,
    request_id: str,
    *,
    checkpoint: str = "tiny",
    preview_every: int = 0,
) -> list[RequestEvent]:
    async with asyncio.timeout(60):
        return [
            event
            async for event in engine.run(
                request, request_id=request_id, checkpoint=checkpoint, preview_every=preview_every
            )
        ]


def pictures(events: Sequence[RequestEvent]) -> np.ndarray:
    return np.stack([np.asarray(Image.open(io.BytesIO(e.png))) for e in events if isinstance(e, ImageReady)]).astype(
        int
    )


@together
async def test_a_request_is_admitted_progresses_step_by_step_and_ends_with_its_pictures(engine: LocalEngine) -> None:
    events = await draw(engine, APPLE, "1")
    assert isinstance(events[0], Admitted) and (events[0].seed, events[0].steps) == (7, 12)
    assert [event.step for event in events if isinstance(event, Progress)] == list(range(1, 13))
    assert [event.seed for event in events if isinstance(event, ImageReady)] == [7, 8, 9, 10]
    assert isinstance(events[-1], Done)
    assert pictures(events).shape[:3] == (4, 16, 16)


@together
async def test_previews_come_every_k_steps_as_soon_as_they_are_made(engine: LocalEngine) -> None:
    request = msgspec.structs.replace(APPLE, steps=100)
    events = await draw(engine, request, "1", preview_every=25)
    steps = [event.step for event in events if isinstance(event, Progress)]
    previews = {e.step: e.preview for e in events if isinstance(e, Progress) and e.preview is not None}
    # Making one takes a while, in which steps go on; after the last step there is no use in any.
    assert 1 <= len(previews) <= 3 and min(previews) >= 25
    assert steps == sorted(steps) and set(steps) == set(range(1, 101))
    assert Image.open(io.BytesIO(next(iter(previews.values())))).format == "WEBP"


@together
async def test_two_requests_in_flight_give_the_pictures_that_each_gives_alone(engine: LocalEngine) -> None:
    alone = [pictures(await draw(engine, request, "1")) for request in (APPLE, TREE)]
    both = await asyncio.gather(draw(engine, APPLE, "1"), draw(engine, TREE, "2"))
    for own, shared in zip(alone, map(pictures, both), strict=True):
        assert own.std() > 1
        assert np.abs(own - shared).max() <= 1


@together
async def test_a_cancelled_request_ends_at_once_and_frees_its_slot(engine: LocalEngine) -> None:
    slots = engine.slots()
    events: list[RequestEvent] = []
    async with asyncio.timeout(60):
        async for event in engine.run(LONG, request_id="1", checkpoint="tiny", preview_every=0):
            events.append(event)
            if isinstance(event, Progress) and event.step == 3:
                await engine.cancel("1")
    assert isinstance(events[-1], Cancelled)
    # How many steps exactly is a question of timing here; test_loop.py pins it down.
    assert len(events) < 100
    assert engine.slots() == slots


@together
@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"images": 0}, "Images"),
        ({"seed": 2**70}, "Seed"),
        ({"width": 48}, "16x16 or 64x64"),
        ({"latents": (b"x",)}, "cannot be read"),
    ],
)
async def test_an_invalid_request_fails_with_a_sentence(engine: LocalEngine, fields: dict[str, Any], word: str) -> None:
    (event,) = await draw(engine, msgspec.structs.replace(APPLE, **fields), "1")
    assert isinstance(event, Failed) and event.code == "invalid" and not event.retryable
    assert word in event.message


@together
@pytest.mark.parametrize(("name", "reason"), [("none such", "no checkpoint 'none such'"), ("damaged", "damaged")])
async def test_a_checkpoint_that_cannot_be_loaded_fails_its_request_only(
    engine: LocalEngine, name: str, reason: str
) -> None:
    (failed,), fine = await asyncio.gather(draw(engine, APPLE, "1", checkpoint=name), draw(engine, TREE, "2"))
    assert isinstance(failed, Failed) and failed.code == "checkpoint" and reason in failed.message
    assert isinstance(fine[-1], Done)


@together
async def test_another_checkpoint_is_loaded_when_a_request_asks_for_it(engine: LocalEngine) -> None:
    assert engine.loaded() == ("tiny",)
    events = await draw(engine, APPLE, "1", checkpoint="second")
    assert isinstance(events[-1], Done)
    assert set(engine.loaded()) == {"tiny", "second"}
    assert {"tiny", "second"} <= {info.name for info in engine.checkpoints()}


@together
async def test_a_prefetched_checkpoint_is_loaded_before_anybody_asks_for_it(engine: LocalEngine) -> None:
    assert "third" not in engine.loaded()
    await engine.prefetch("none such")
    await engine.prefetch("third")
    async with asyncio.timeout(60):
        while "third" not in engine.loaded():  # noqa: ASYNC110 - it is the engine's public state
            await asyncio.sleep(0.01)


@together
async def test_a_killed_worker_fails_its_requests_and_the_next_one_works(engine: LocalEngine) -> None:
    first_pid = engine.pid
    assert first_pid is not None
    with pytest.raises(EngineCrashed):
        async for event in engine.run(LONG, request_id="1", checkpoint="tiny"):
            if isinstance(event, Progress):
                os.kill(first_pid, signal.SIGKILL)
    assert engine.slots() == 0
    async with asyncio.timeout(60):
        await engine.wait_ready()
    assert engine.pid != first_pid
    assert isinstance((await draw(engine, APPLE, "1"))[-1], Done)


@together
async def test_draining_lets_what_is_in_flight_end_and_takes_no_more(engine: LocalEngine) -> None:
    # The last test of the shared worker, because nothing works after it.
    draining: asyncio.Task[None] | None = None
    async with asyncio.timeout(60):
        async for event in engine.run(APPLE, request_id="1", checkpoint="tiny"):
            if isinstance(event, Admitted):
                draining = asyncio.create_task(engine.drain())
                await asyncio.sleep(0)  # it begins before the next event is read
            elif isinstance(event, Progress):
                assert engine.slots() == 0
        assert isinstance(event, Done)
        assert draining is not None
        await draining
    assert engine.pid is None
    with pytest.raises(EngineError, match="shutting down"):
        await draw(engine, APPLE, "2")


HANGS_ONCE = """
import sys, threading
from pathlib import Path
from t2i.engine import runner, worker

step, steps, lock = runner.step, [], Path({lock!r})

def hang(*arguments, **options):
    steps.append(arguments)
    if len(steps) == 3 and not lock.exists():
        lock.touch()
        threading.Event().wait()
    return step(*arguments, **options)

runner.step = hang
worker.main()
"""


class HangingEngine(LocalEngine):
    """Its first worker never comes back from its third step."""

    lock: Path

    def _command(self) -> list[str]:
        python, _, _, *options = super()._command()
        return [python, "-c", HANGS_ONCE.format(lock=str(self.lock)), *options]


async def test_a_worker_that_hangs_in_a_step_is_replaced_although_its_heart_beats(
    checkpoints_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine = HangingEngine(
        checkpoints_dir=checkpoints_dir,
        default="tiny",
        hardware=Hardware(device="cpu"),
        supervision=Supervision(stall=1.0, pauses=(0.05,) * 4),
    )
    engine.lock = tmp_path / "hung"
    await engine.start()
    async with asyncio.timeout(60):
        await engine.wait_ready()
    hung = engine.pid
    with pytest.raises(EngineCrashed) as raised:
        await draw(engine, APPLE, "1")
    assert raised.value.retryable
    async with asyncio.timeout(60):
        await engine.wait_ready()
    assert engine.pid != hung and "in one step for" in caplog.text
    assert isinstance((await draw(engine, APPLE, "1"))[-1], Done)
    await engine.close()


# --- the process by itself, spoken to without the client --------------------------------------------------------------


def command(checkpoints_dir: Path, descriptor: int) -> list[str]:
    worker = [sys.executable, "-m", "t2i.engine.worker", "--device", "cpu", "--default", "tiny"]
    return [*worker, "--checkpoints-dir", str(checkpoints_dir), "--socket", str(descriptor)]


E = TypeVar("E", bound=Event)


class Peer:
    """A worker and this side of its socket."""

    def __init__(
        self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.process = process
        self.reader = reader
        self.writer = writer

    async def next(self, kind: type[E]) -> E:
        """The next event of a kind; others are passed over."""
        async with asyncio.timeout(60):
            while not isinstance(event := await protocol.read_event(self.reader), kind):
                assert event is not None, f"the worker left without {kind.__name__}"
            return event

    def send(self, message: object, *, version: int = PROTOCOL_VERSION) -> None:
        body = msgspec.msgpack.encode((version, message))
        self.writer.write(struct.pack(">I", len(body)) + body)

    async def exit_code(self) -> int:
        async with asyncio.timeout(20):
            return await self.process.wait()


@pytest.fixture
async def peer(checkpoints_dir: Path) -> AsyncIterator[Peer]:
    ours, theirs = socket.socketpair()
    with theirs:
        process = await asyncio.create_subprocess_exec(
            *command(checkpoints_dir, theirs.fileno()), pass_fds=(theirs.fileno(),)
        )
    reader, writer = await asyncio.open_unix_connection(sock=ours)
    yield Peer(process, reader, writer)
    writer.close()
    if process.returncode is None:
        process.kill()
        await process.wait()


async def test_a_worker_greets_beats_survives_a_malformed_request_and_refuses_another_version(peer: Peer) -> None:
    hello = await peer.next(Hello)
    assert (hello.version, hello.device, hello.loaded) == (PROTOCOL_VERSION, "cpu", ("tiny",))
    assert isinstance(await peer.next(Heartbeat), Heartbeat)
    peer.send({"type": "submit", "request_id": "7", "checkpoint": "tiny", "request": {"prompt": 5}})
    failed = await peer.next(Failed)
    assert (failed.request_id, failed.code) == ("7", "invalid")
    peer.send({"type": "drain"}, version=PROTOCOL_VERSION + 1)
    assert f"version {PROTOCOL_VERSION + 1}" in (await peer.next(Fatal)).message
    assert await peer.exit_code() == 1


async def test_a_worker_in_the_middle_of_work_leaves_when_its_parent_closes_the_socket(peer: Peer) -> None:
    await peer.next(Hello)
    peer.writer.write(protocol.frame(Submit(request_id="1", checkpoint="tiny", request=LONG)))
    await peer.next(Progress)
    peer.writer.close()
    assert await peer.exit_code() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
async def test_a_worker_is_killed_with_its_parent_even_while_someone_holds_the_socket(checkpoints_dir: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        program = (
            "import subprocess, sys, time\n"
            f"worker = subprocess.Popen({command(checkpoints_dir, theirs.fileno())}, pass_fds=[{theirs.fileno()}])\n"
            "print(worker.pid, flush=True)\n"
            "time.sleep(60)\n"
        )
        parent = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, pass_fds=(theirs.fileno(),), stdout=asyncio.subprocess.PIPE
        )
        assert parent.stdout is not None
        worker = psutil.Process(int(await parent.stdout.readline()))
        async with asyncio.timeout(20):
            # It ignores SIGTERM right after it has tied itself to its parent, long before torch is imported.
            while not ignores(worker.pid, signal.SIGTERM):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        parent.kill()
        await parent.wait()
        psutil.wait_procs([worker], timeout=20)
        assert not worker.is_running()


def ignores(pid: int, number: signal.Signals) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    mask = int(next(line for line in status.splitlines() if line.startswith("SigIgn")).split()[1], 16)
    return bool(mask >> (number - 1) & 1)
