"""An engine whose every event a test decides."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass

from t2i.api import (
    Admitted,
    CheckpointInfo,
    Done,
    EngineCrashed,
    EngineError,
    Failed,
    GenerationRequest,
    ImageReady,
    Progress,
    RequestEvent,
)

EMBEDDED = CheckpointInfo(
    name="embedded",
    family="cascade",
    description="Test pictures.",
    licence="MIT",
    sha256="0" * 64,
    parameters=1,
    sizes=(64, 256),
    default_size=64,
    steps=10,
    sampler="ddim",
    guidance_scale=3.0,
    samplers=("ddim",),
)


@dataclass
class Run:
    """One call of `run`, as the script sees it."""

    request_id: str
    request: GenerationRequest
    checkpoint: str
    proceed: asyncio.Event
    """Set by `release`; scripts that hold wait for it."""

    @property
    def prompt(self) -> str:
        return self.request.prompt


Script = Callable[[Run], AsyncGenerator[RequestEvent, None]]


def picture(run: Run, index: int) -> bytes:
    return f"png of {run.prompt} from {run.request.seed} at {index}".encode()


def latents(run: Run, index: int) -> bytes:
    return f"latents of {run.prompt} at {index}".encode()


async def draw(run: Run) -> AsyncGenerator[RequestEvent, None]:
    """Three steps and the pictures."""
    assert run.request.seed is not None
    yield Admitted(
        request_id=run.request_id,
        checkpoint=run.checkpoint,
        seed=run.request.seed,
        steps=3,
        sampler="ddim",
        guidance_scale=3.0,
        width=64,
        height=64,
    )
    for step in range(1, 4):
        yield Progress(request_id=run.request_id, step=step, steps=3, preview=b"preview" if step == 2 else None)
    for index in range(run.request.images):
        yield ImageReady(
            request_id=run.request_id,
            index=index,
            seed=run.request.seed + index,
            width=64,
            height=64,
            png=picture(run, index),
            latents=latents(run, index),
        )
    yield Done(request_id=run.request_id, seconds=1.5)


async def hold(run: Run) -> AsyncGenerator[RequestEvent, None]:
    """One step, then a wait until the test lets it go on."""
    events = draw(run)
    for _ in range(2):
        yield await anext(events)
    await run.proceed.wait()
    async for event in events:
        yield event


async def crash(run: Run) -> AsyncGenerator[RequestEvent, None]:
    yield await anext(draw(run))
    raise EngineCrashed


async def fail(run: Run) -> AsyncGenerator[RequestEvent, None]:
    yield Failed(request_id=run.request_id, code="memory", message="The picture is too large for this device.")


class ScriptedEngine:
    """Implements `t2i.engine.client.Engine`."""

    def __init__(self, capacity: int = 2) -> None:
        self.capacity = capacity
        self.script: Script = draw
        self.runs: list[Run] = []
        self.in_flight: dict[str, Run] = {}
        self.most_in_flight = 0
        self.closed_early: list[str] = []
        self.ready = asyncio.Event()
        self.ready.set()
        self._news = asyncio.Condition()

    async def until(self, told: Callable[[], bool]) -> None:
        """Wait until `told()` is true; looked at whenever a run begins or ends."""
        async with asyncio.timeout(10), self._news:
            await self._news.wait_for(told)

    async def running(self, prompt: str) -> Run:
        """The run of that prompt, once it is in flight."""
        await self.until(lambda: any(run.prompt == prompt for run in self.in_flight.values()))
        return next(run for run in self.in_flight.values() if run.prompt == prompt)

    def slots(self) -> int:
        return self.capacity - len(self.in_flight) if self.ready.is_set() else 0

    def loaded(self) -> tuple[str, ...]:
        return ("embedded",)

    def checkpoints(self) -> tuple[CheckpointInfo, ...]:
        return (EMBEDDED,)

    async def wait_ready(self) -> None:
        await self.ready.wait()

    async def run(
        self, request: GenerationRequest, *, request_id: str, checkpoint: str, **_: object
    ) -> AsyncGenerator[RequestEvent, None]:
        if not self.ready.is_set():
            raise EngineError("The image engine is still starting.", code="unavailable", retryable=True)
        run = Run(request_id, request, checkpoint, asyncio.Event())
        self.runs.append(run)
        self.in_flight[request_id] = run
        self.most_in_flight = max(self.most_in_flight, len(self.in_flight))
        await self._tell()
        finished = False
        try:
            async for event in self.script(run):
                finished = isinstance(event, Done | Failed)
                if finished:
                    del self.in_flight[request_id]
                yield event
        except EngineCrashed:
            finished = True
            raise
        finally:
            if not finished:
                self.closed_early.append(request_id)
            self.in_flight.pop(request_id, None)
            await self._tell()

    async def cancel(self, request_id: str) -> None:
        raise NotImplementedError("The dispatcher cancels by closing the stream.")

    async def drain(self) -> None:
        raise NotImplementedError

    async def _tell(self) -> None:
        async with self._news:
            self._news.notify_all()
