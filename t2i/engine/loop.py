"""The step loop: one thread that admits requests, steps them together and reports what happened.

Everything in flight belongs to that thread. Other threads only post actions to its inbox, which it takes in between
two ticks; that is why a cancel never meets a half-done step.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue

import torch

from t2i.api import (
    Cancelled,
    CheckpointError,
    Done,
    EngineError,
    Event,
    Failed,
    InvalidRequest,
    Loaded,
    Progress,
    Submit,
    validate,
)
from t2i.engine import runner
from t2i.engine.models import Models
from t2i.engine.scheduler import choose
from t2i.families.pipeline import AnyModel

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class Flight:
    """A request in flight: what was asked, what steps it, and how far its client knows it to be."""

    submit: Submit
    model: AnyModel
    sequence: runner.Job
    deadline: int
    reported: int = 0
    started: float = field(default_factory=time.monotonic)

    @property
    def group(self) -> Hashable:
        return self.submit.checkpoint, self.sequence.group

    @property
    def rows(self) -> int:
        return self.sequence.rows


class StepLoop:
    """`submit`, `cancel`, `prefetch` and `drain` may be called from any thread; `emit` is called from several."""

    def __init__(self, models: Models, emit: Callable[[Event], None], *, row_cap: int) -> None:
        self.ticks = 0
        self.busy = False
        """Whether it is at work, and not waiting for a request or a checkpoint."""
        self._models = models
        self._emit = emit
        self._row_cap = row_cap
        self._inbox: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._waiting: dict[str, list[Submit]] = {}
        """Requests whose checkpoint is being loaded, by its name."""
        self._flights: dict[str, Flight] = {}
        self._landing: list[Flight] = []
        """Requests whose pictures are being made."""
        self._encoder = ThreadPoolExecutor(1, thread_name_prefix="encoder")
        self._draining = False

    def submit(self, submit: Submit) -> None:
        self._inbox.put(partial(self._accept, submit))

    def cancel(self, request_id: str) -> None:
        self._inbox.put(partial(self._cancel, request_id))

    def prefetch(self, checkpoint: str) -> None:
        self._inbox.put(partial(self._prefetch, checkpoint))

    def drain(self) -> None:
        self._inbox.put(self._begin_drain)

    def run(self) -> None:
        """Step until drained."""
        while self._flights or self._waiting or not self._draining:
            self._take_in()
            if batch := choose(self._flights.values(), self._row_cap):
                self._step(batch)
                self.ticks += 1
                for flight in batch:
                    self._report(flight)
        self._encoder.shutdown(wait=True)

    def _take_in(self) -> None:
        """Do what was posted; with nothing to step, wait for it."""
        if not self._flights:
            self.busy = bool(self._landing)
            action = self._inbox.get()
            self.busy = True
            action()
        with suppress(Empty):
            while True:
                self._inbox.get_nowait()()
        self._models.settle(self._in_use)

    # --- what is posted -------------------------------------------------------------------------------------------

    def _accept(self, submit: Submit) -> None:
        name = submit.checkpoint
        with self._answering(submit.request_id):
            if self._draining:
                raise EngineError("The image engine is shutting down.", retryable=True)
            validate(submit.request)
            if model := self._models.get(name):
                self._admit(submit, model)
            elif name in self._waiting:
                self._waiting[name].append(submit)
            else:
                self._await(name, self._models.load(name, busy=self._in_use))
                self._waiting[name].append(submit)

    def _prefetch(self, name: str) -> None:
        if future := self._models.prefetch(name, busy=self._in_use):
            self._await(name, future)

    def _await(self, name: str, future: Future[AnyModel]) -> None:
        self._waiting[name] = []
        future.add_done_callback(lambda done: self._inbox.put(partial(self._loaded, name, done)))

    def _loaded(self, name: str, future: Future[AnyModel]) -> None:
        waiting = self._waiting.pop(name)
        if future.exception() is None:
            self._models.add(name, future.result())
            self._emit(Loaded(checkpoints=self._models.loaded))
        for submit in waiting:
            with self._answering(submit.request_id):
                self._admit(submit, future.result())

    def _admit(self, submit: Submit, model: AnyModel) -> None:
        sequence = runner.admit(model, submit.request, submit.request_id)
        flight = Flight(submit, model, sequence, deadline=self.ticks + sequence.steps)
        self._flights[submit.request_id] = flight
        self._emit(sequence.admitted)
        if sequence.finished:
            self._land(flight)

    def _cancel(self, request_id: str) -> None:
        """A request that is unknown, or whose pictures are being encoded, is left to end by itself."""
        for waiting in self._waiting.values():
            for submit in waiting:
                if submit.request_id == request_id:
                    waiting.remove(submit)
                    self._emit(Cancelled(request_id=request_id))
                    return
        if flight := self._flights.pop(request_id, None):
            flight.sequence.close()
            self._emit(Cancelled(request_id=request_id))

    def _begin_drain(self) -> None:
        self._draining = True

    # --- a tick ---------------------------------------------------------------------------------------------------

    def _step(self, batch: list[Flight]) -> None:
        try:
            runner.step(batch[0].model, [flight.sequence for flight in batch])
        except Exception as error:
            if len(batch) == 1:
                self._fail(batch[0].submit.request_id, error)
                return
            # One of them is at fault: whoever was not stepped yet is stepped alone, so that only that one fails.
            for flight in batch:
                if flight.sequence.step == flight.reported:
                    self._step([flight])

    def _report(self, flight: Flight) -> None:
        sequence, every = flight.sequence, flight.submit.preview_every
        if sequence.step == flight.reported:
            return
        flight.reported = sequence.step
        due = every > 0 and sequence.step % every == 0 and not sequence.finished
        with self._answering(sequence.request_id):
            preview = runner.preview(flight.model, sequence) if due else None
            self._emit(
                Progress(request_id=sequence.request_id, step=sequence.step, steps=sequence.steps, preview=preview)
            )
            if sequence.finished:
                self._land(flight)

    def _land(self, flight: Flight) -> None:
        """All steps are done: the slot is free, and the pictures are made on the encoder thread."""
        del self._flights[flight.sequence.request_id]
        self._landing.append(flight)
        self._encoder.submit(self._deliver, flight)

    def _deliver(self, flight: Flight) -> None:
        request_id = flight.sequence.request_id
        try:
            for image in runner.results(flight.model, flight.sequence):
                self._emit(image)
            self._emit(Done(request_id=request_id, seconds=time.monotonic() - flight.started))
        except Exception as error:
            self._emit(failure(request_id, error))
        finally:
            self._inbox.put(partial(self._landing.remove, flight))

    @property
    def _in_use(self) -> frozenset[str]:
        """Checkpoints that must stay where they are."""
        return frozenset(flight.submit.checkpoint for flight in [*self._flights.values(), *self._landing])

    # --- failures -------------------------------------------------------------------------------------------------

    @contextmanager
    def _answering(self, request_id: str) -> Iterator[None]:
        """Whatever goes wrong inside ends this one request with a sentence, and nothing else."""
        try:
            yield
        except Exception as error:
            self._fail(request_id, error)

    def _fail(self, request_id: str, error: Exception) -> None:
        if flight := self._flights.pop(request_id, None):
            flight.sequence.close()
        self._emit(failure(request_id, error))


def failure(request_id: str, error: Exception) -> Failed:
    """The event that tells of `error`; what no one foresaw goes to the log and gets a plain sentence."""
    match error:
        case InvalidRequest():
            return Failed(request_id=request_id, code="invalid", message=str(error))
        case CheckpointError():
            return Failed(request_id=request_id, code="checkpoint", message=str(error))
        case MemoryError() | torch.OutOfMemoryError():
            message = "There was not enough memory for this request: ask for fewer or smaller images."
            return Failed(request_id=request_id, code="memory", message=message, retryable=True)
        case EngineError(code="memory" | "numerics" as code):
            return Failed(request_id=request_id, code=code, message=str(error), retryable=error.retryable)
        case EngineError():
            return Failed(request_id=request_id, code="engine", message=str(error), retryable=error.retryable)
    logger.error("request %s failed", request_id, exc_info=error)
    message = "The image engine could not draw this: try again, and tell the operator when it happens twice."
    return Failed(request_id=request_id, code="engine", message=message)
