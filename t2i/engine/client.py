"""The engine as its users see it, and the one that runs in a process of its own on this machine.

Nothing here imports torch: whoever uses an engine stays small and quick to start.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

from t2i.api import (
    Accomplished,
    Admitted,
    Advanced,
    Cancel,
    Cancelled,
    CheckpointInfo,
    Done,
    Drain,
    EngineCrashed,
    EngineError,
    Errand,
    ErrandEvent,
    Event,
    Failed,
    GenerationRequest,
    Hardware,
    Heartbeat,
    Hello,
    ImageReady,
    InvalidRequest,
    Loaded,
    Prefetch,
    Progress,
    RequestEvent,
    Settle,
    Shelf,
    Shelved,
    Submit,
    validate,
)
from t2i.engine.process import WorkerProcess
from t2i.engine.protocol import ProtocolError
from t2i.engine.watchdog import Watchdog

logger = logging.getLogger(__name__)


class Engine(Protocol):
    """Draws several requests at once and streams what happens to each."""

    def slots(self) -> int:
        """Requests it would accept right now; 0 while it is down, starting or draining."""

    def loaded(self) -> tuple[str, ...]:
        """Checkpoints in memory: requests for these start at once."""

    def checkpoints(self) -> tuple[CheckpointInfo, ...]:
        """Checkpoints it can load; empty before it was ready for the first time."""

    def shelf(self) -> Shelf:
        """Those, the LoRAs, and what is damaged."""

    def weights(self) -> Mapping[str, int]:
        """Bytes on the device of every checkpoint that was loaded since it was started."""

    async def wait_ready(self) -> None:
        """Return once it takes work. Raises EngineError when it was closed or drained."""

    def run(
        self,
        request: GenerationRequest,
        *,
        request_id: str,
        checkpoint: str,
        preview_every: int = 2,
        user: str = "",
        draft: bool = False,
        trial: bool = False,
    ) -> AsyncIterator[RequestEvent]:
        """Stream the events of one request; the last is Done, Failed or Cancelled.

        The engine shares the device between users, and draws drafts first. With `trial` the checkpoint is read anew for
        this request alone and a picture without anything on it fails; call `settle` afterwards, whatever came of it.

        Raises EngineCrashed when the engine stops in between, and a retryable EngineError when it takes no work now.
        Closing the iterator early cancels the request.
        """

    async def cancel(self, request_id: str) -> None:
        """Ask for the request to end with Cancelled; one that is unknown or all but done is left alone."""

    async def settle(self, checkpoint: str, *, keep: bool) -> None:
        """End a trial: all requests go to the model that was tried from now on, or it is let go."""

    def run_errand(self, errand: Errand) -> AsyncIterator[ErrandEvent]:
        """Stream how far an errand is; the last event is Accomplished, Failed or Cancelled, and by then `shelf` is up
        to date. Closing the iterator early cancels the errand.

        Raises EngineCrashed when the engine stops in between, and a retryable EngineError when it takes no work now.
        """

    async def prefetch(self, checkpoint: str) -> None:
        """Have a checkpoint loaded that will soon be wanted, if there is room beside those in use."""

    async def drain(self) -> None:
        """Take no more work, let what is in flight end, and stop."""


@dataclass(frozen=True, kw_only=True)
class Supervision:
    """When a worker counts as lost and how it is brought back; times in seconds."""

    start: float = 300.0
    """How long loading the default checkpoint may take."""
    silence: float = 15.0
    """A worker that sends nothing for so long, not even a heartbeat, is killed."""
    stall: float | None = None
    """So is one that is in one step for so long, and for ten times longer than in any before; None: two minutes, and
    ten on a CPU."""
    pauses: tuple[float, ...] = (1.0, 4.0, 16.0, 60.0)
    """Wait after the first, second, ... crash of the last `window` seconds; one crash more opens the circuit."""
    window: float = 600.0
    """An open circuit starts no worker for so long; then counting begins anew."""


class LocalEngine(Engine):
    """A worker process on this machine that is started again whenever it ends.

    The budgets are bytes of weights that may be on the device, and that may rest in main memory beside it; None leaves
    a share of each for other things.
    """

    def __init__(
        self,
        *,
        checkpoints_dir: Path | None = None,
        default: str = "embedded",
        hardware: Hardware | None = None,
        device_budget: int | None = None,
        memory_budget: int | None = None,
        supervision: Supervision = Supervision(),
    ) -> None:
        self._checkpoints_dir = checkpoints_dir
        self._default = default
        self._hardware = hardware or Hardware()
        self._budgets = {"--device-budget": device_budget, "--memory-budget": memory_budget}
        self._supervision = supervision
        self._supervisor: asyncio.Task[None] | None = None
        self._worker: WorkerProcess | None = None
        self._ready = asyncio.Event()
        self._draining = False
        self._problem = "The image engine is not started."
        self._capacity = 0
        self._shelf = Shelf()
        self._loaded: tuple[str, ...] = ()
        self._weights: dict[str, int] = {}
        self._flights: dict[str, asyncio.Queue[RequestEvent | EngineCrashed]] = {}
        """Where the events of each request go that has not ended."""
        self._errands: dict[str, asyncio.Queue[ErrandEvent | EngineCrashed]] = {}
        """The same for errands, which take up no slot."""

    async def start(self) -> None:
        """Begin to start the worker; `wait_ready` returns when it takes work."""
        self._problem = "The image engine is still starting."
        self._supervisor = asyncio.create_task(self._supervise(), name="engine supervisor")

    async def close(self) -> None:
        """Kill the worker; what is in flight ends with EngineCrashed."""
        self._problem = "The image engine is stopped."
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.wait([self._supervisor])

    async def drain(self) -> None:
        self._draining = True
        if self._ready.is_set():
            assert self._worker is not None and self._supervisor is not None
            self._worker.send(Drain())
            await asyncio.wait([self._supervisor])
        await self.close()

    @property
    def pid(self) -> int | None:
        """Process id of the worker; None while there is none."""
        return self._worker.pid if self._worker is not None else None

    @property
    def problem(self) -> str | None:
        """Why it takes no work, in one sentence; None when it does."""
        if self._draining:
            return "The image engine is shutting down."
        return None if self._ready.is_set() else self._problem

    def slots(self) -> int:
        return 0 if self.problem else max(0, self._capacity - len(self._flights))

    def loaded(self) -> tuple[str, ...]:
        return self._loaded

    def checkpoints(self) -> tuple[CheckpointInfo, ...]:
        return self._shelf.checkpoints

    def shelf(self) -> Shelf:
        return self._shelf

    def weights(self) -> Mapping[str, int]:
        return self._weights

    async def wait_ready(self) -> None:
        if self._supervisor is None:
            raise EngineError(self._problem)
        ready = asyncio.create_task(self._ready.wait())
        try:
            await asyncio.wait((ready, self._supervisor), return_when=asyncio.FIRST_COMPLETED)
        finally:
            ready.cancel()
        if self._supervisor.done():
            raise EngineError(self._problem)

    async def run(
        self,
        request: GenerationRequest,
        *,
        request_id: str,
        checkpoint: str,
        preview_every: int = 2,
        user: str = "",
        draft: bool = False,
        trial: bool = False,
    ) -> AsyncIterator[RequestEvent]:
        if problem := self.problem:
            raise EngineError(problem, code="unavailable", retryable=True)
        if request_id in self._flights:
            raise ValueError(f"request {request_id!r} is in flight already")
        assert self._worker is not None
        try:
            validate(request)
            self._worker.send(
                Submit(
                    request_id=request_id,
                    checkpoint=checkpoint,
                    request=request,
                    preview_every=preview_every,
                    user=user,
                    draft=draft,
                    trial=trial,
                )
            )
        except (InvalidRequest, ProtocolError) as error:
            yield Failed(request_id=request_id, code="invalid", message=str(error))
            return
        events = self._flights[request_id] = asyncio.Queue()
        try:
            while True:
                event = await events.get()
                if isinstance(event, EngineCrashed):
                    raise event
                yield event
                if isinstance(event, Done | Failed | Cancelled):
                    return
        finally:
            # Still there means that the caller left early.
            await self.cancel(request_id)
            self._flights.pop(request_id, None)

    async def cancel(self, request_id: str) -> None:
        if request_id in self._flights | self._errands and self._worker is not None:
            self._worker.send(Cancel(request_id=request_id))

    async def settle(self, checkpoint: str, *, keep: bool) -> None:
        # A worker that has ended has nothing on trial any more.
        if self.problem is None and self._worker is not None:
            self._worker.send(Settle(checkpoint=checkpoint, keep=keep))

    async def run_errand(self, errand: Errand) -> AsyncIterator[ErrandEvent]:
        if problem := self.problem:
            raise EngineError(problem, code="unavailable", retryable=True)
        assert self._worker is not None
        events = self._errands[errand.request_id] = asyncio.Queue()
        try:
            self._worker.send(errand)
            while True:
                event = await events.get()
                if isinstance(event, EngineCrashed):
                    raise event
                yield event
                if isinstance(event, Accomplished | Failed | Cancelled):
                    return
        finally:
            await self.cancel(errand.request_id)
            self._errands.pop(errand.request_id, None)

    async def prefetch(self, checkpoint: str) -> None:
        if self.problem is None and self._worker is not None:
            self._worker.send(Prefetch(checkpoint=checkpoint))

    # --- supervision ----------------------------------------------------------------------------------------------

    def _command(self) -> Sequence[str]:
        command = [sys.executable, "-m", "t2i.engine.worker", "--default", self._default]
        for name, value in msgspec.structs.asdict(self._hardware).items():
            if value:
                flag = f"--{name.replace('_', '-')}"
                command += [flag] if value is True else [flag, value]
        for flag, budget in self._budgets.items():
            if budget is not None:
                command += [flag, str(budget)]
        if self._checkpoints_dir is not None:
            command += ["--checkpoints-dir", str(self._checkpoints_dir)]
        return command

    async def _supervise(self) -> None:
        """Keep a worker running until drained or cancelled."""
        pauses, window = self._supervision.pauses, self._supervision.window
        crashes: deque[float] = deque()
        while True:
            reason = await self._live()
            if self._draining:
                return
            now = time.monotonic()
            crashes.append(now)
            while crashes[0] < now - window:
                crashes.popleft()
            if len(crashes) <= len(pauses):
                pause = pauses[len(crashes) - 1]
                self._problem = "The image engine stopped and is being started again."
            else:
                pause = window
                crashes.clear()
                self._problem = "The image engine keeps stopping and rests for some minutes: try again later."
            logger.error("%s It is started again in %g s.", reason, pause)
            await asyncio.sleep(pause)

    async def _live(self) -> str:
        """One life of the worker; returns the sentence that says why it ended."""
        try:
            self._worker = await WorkerProcess.start(self._command())
            hello = await self._worker.receive(self._supervision.start)
            if not isinstance(hello, Hello):
                raise ProtocolError("The engine process did not begin with its greeting.")
            self._greet(hello)
            watchdog = Watchdog(hello, self._supervision.stall)
            while True:
                event = await self._worker.receive(self._supervision.silence)
                if isinstance(event, Heartbeat):
                    watchdog.hear(event)
                self._take(event)
        except EngineError as error:
            return str(error)
        finally:
            await self._bury()

    def _greet(self, hello: Hello) -> None:
        self._capacity = hello.capacity
        self._shelf = hello.shelf
        self._loaded, self._weights = hello.loaded, hello.weights
        self._ready.set()
        logger.info("The image engine is ready on %s with %s.", hello.device, ", ".join(hello.loaded))

    def _take(self, event: Event) -> None:
        match event:
            case Loaded():
                self._loaded, self._weights = event.checkpoints, event.weights
            case Shelved():
                self._shelf = event.shelf
            case Advanced() if errand := self._errands.get(event.request_id):
                errand.put_nowait(event)
            case Accomplished() | Failed() | Cancelled() if errand := self._errands.pop(event.request_id, None):
                errand.put_nowait(event)
            case Done() | Failed() | Cancelled():
                if events := self._flights.pop(event.request_id, None):
                    events.put_nowait(event)
            case Admitted() | Progress() | ImageReady():
                if events := self._flights.get(event.request_id):
                    events.put_nowait(event)

    async def _bury(self) -> None:
        self._ready.clear()
        self._loaded = ()
        for events in self._flights.values():
            events.put_nowait(EngineCrashed())
        for errand in self._errands.values():
            errand.put_nowait(EngineCrashed())
        self._flights.clear()
        self._errands.clear()
        if self._worker is not None:
            await self._worker.kill()
            self._worker = None
