"""The step loop: one thread that admits requests, steps them together and reports what happened.

Everything in flight belongs to that thread. Other threads only post actions to its inbox, which it takes in between
two ticks; that is why a cancel never meets a half-done step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from functools import partial
from queue import Empty, SimpleQueue

from t2i.api import Cancelled, EngineError, Event, Loaded, Submit, validate
from t2i.engine import recovery, runner
from t2i.engine.calibration import Calibration
from t2i.engine.encoder import Encoder
from t2i.engine.failures import failure
from t2i.engine.flight import Flight
from t2i.engine.models import Models, key_of
from t2i.engine.scheduler import Room, Scheduler
from t2i.families.pipeline import AnyModel


class StepLoop:
    """`submit`, `cancel`, `pause`, `resume`, `settle`, `forget`, `prefetch` and `drain` may be called from any thread;
    `emit` is called from several.

    `row_cap` bounds the rows of a shared forward until `calibration`, if there is any, knows what is best.
    """

    def __init__(
        self,
        models: Models,
        emit: Callable[[Event], None],
        *,
        row_cap: int,
        calibration: Calibration | None = None,
    ) -> None:
        self.ticks = 0
        self.busy = False
        """Whether it is at work, and not waiting for a request or a checkpoint."""
        self._models = models
        self._emit = emit
        self._unmeasured = Room(row_cap)
        self._measures = calibration is not None
        self._calibration = calibration or Calibration(None, most_rows=row_cap)
        self._fits = recovery.Fits()
        self._inbox: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._waiting: dict[str, list[Submit]] = {}
        """Requests whose model is being loaded, by its key."""
        self._flights: dict[str, Flight] = {}
        self._scheduler: Scheduler[Flight] = Scheduler()
        """All flights but those that are paused."""
        self._landing: list[Flight] = []
        """Requests whose pictures are being made."""
        self._encoder = Encoder(emit)
        self._draining = False

    def submit(self, submit: Submit) -> None:
        self._inbox.put(partial(self._accept, submit))

    def cancel(self, request_id: str) -> None:
        self._inbox.put(partial(self._cancel, request_id))

    def pause(self, request_id: str) -> None:
        self._inbox.put(partial(self._pause, request_id))

    def resume(self, request_id: str) -> None:
        self._inbox.put(partial(self._resume, request_id))

    def settle(self, checkpoint: str, *, keep: bool) -> None:
        """End a trial, as `t2i.api.Settle` says."""
        self._inbox.put(partial(self._settle, checkpoint, keep))

    def forget(self, checkpoint: str) -> None:
        """Its files are gone: requests in flight end on the model that they have."""
        self._inbox.put(partial(self._forget, checkpoint))

    def prefetch(self, checkpoint: str) -> None:
        self._inbox.put(partial(self._prefetch, checkpoint))

    def drain(self) -> None:
        self._inbox.put(self._begin_drain)

    def run(self) -> None:
        """Step until drained."""
        for name in self._models.loaded:
            self._welcome(name)
        while self._flights or self._waiting or not self._draining:
            self._take_in()
            if batch := self._scheduler.choose(self._room):
                self._step(batch)
        self._encoder.close()

    def _take_in(self) -> None:
        """Do what was posted; with nothing to step, wait for it."""
        if not self._scheduler:
            self.busy = bool(self._landing)
            action = self._wait()
            self.busy = True
            action()
        with suppress(Empty):
            while True:
                self._inbox.get_nowait()()
        self._models.settle(self._in_use)

    def _wait(self) -> Callable[[], None]:
        """What is posted next. Until then the device is measured, as it has nothing else to do."""
        if self._measures and not self._landing:
            while self._inbox.empty() and self._calibration.measure(self._models.loaded):
                pass
        return self._inbox.get()

    # --- what is posted -------------------------------------------------------------------------------------------

    def _accept(self, submit: Submit) -> None:
        key = key_of(submit)
        with self._answering(submit.request_id):
            if self._draining:
                raise EngineError("The image engine is shutting down.", retryable=True)
            validate(submit.request)
            if submit.trial:
                self._models.drop_trial(submit.checkpoint)  # its files may have changed since
            if model := self._models.get(key):
                self._admit(submit, model)
            elif key in self._waiting:
                self._waiting[key].append(submit)
            else:
                self._await(key, self._models.load(key, busy=self._in_use))
                self._waiting[key].append(submit)

    def _settle(self, name: str, keep: bool) -> None:
        if keep:
            self._rename(name, self._models.keep_trial(name))
            self._welcome(name)
        else:
            self._models.drop_trial(name)
        self._tell_loaded()

    def _forget(self, name: str) -> None:
        self._rename(name, self._models.forget(name))
        self._tell_loaded()

    def _rename(self, name: str, retired: str | None) -> None:
        """Requests in flight stay with the model they began with, under its new key."""
        for flight in self._all_flights:
            if retired and flight.key == name:
                flight.key = retired

    def _prefetch(self, name: str) -> None:
        if future := self._models.prefetch(name, busy=self._in_use):
            self._await(name, future)

    def _await(self, key: str, future: Future[AnyModel]) -> None:
        self._waiting[key] = []
        future.add_done_callback(lambda done: self._inbox.put(partial(self._loaded, key, done)))

    def _loaded(self, key: str, future: Future[AnyModel]) -> None:
        waiting = self._waiting.pop(key)
        if future.exception() is None:
            self._models.add(key, future.result())
            self._welcome(key)
            self._tell_loaded()
        for submit in waiting:
            with self._answering(submit.request_id):
                self._admit(submit, future.result())

    def _welcome(self, key: str) -> None:
        if model := self._models.get(key):
            self._calibration.welcome(key, model)

    def _tell_loaded(self) -> None:
        self._emit(Loaded(checkpoints=self._models.loaded, weights=self._models.weights))

    def _admit(self, submit: Submit, model: AnyModel) -> None:
        job = runner.admit(model, submit.request, submit.request_id)
        flight = Flight(submit, model, job, self._calibration)
        self._flights[flight.request_id] = flight
        self._scheduler.add(flight, user=submit.user, draft=submit.draft)
        self._emit(job.admitted)
        if job.finished:
            self._land(flight)

    def _cancel(self, request_id: str) -> None:
        """A request that is unknown, or whose pictures are being encoded, is left to end by itself."""
        for waiting in self._waiting.values():
            for submit in waiting:
                if submit.request_id == request_id:
                    waiting.remove(submit)
                    self._emit(Cancelled(request_id=request_id))
                    return
        if request_id in self._flights:
            self._drop(request_id)
            self._emit(Cancelled(request_id=request_id))

    def _pause(self, request_id: str) -> None:
        if flight := self._flights.get(request_id):
            self._scheduler.remove(flight)

    def _resume(self, request_id: str) -> None:
        if (flight := self._flights.get(request_id)) and flight not in self._scheduler:
            self._scheduler.add(flight, user=flight.submit.user, draft=flight.submit.draft)

    def _begin_drain(self) -> None:
        self._draining = True
        for request_id in self._flights:
            self._resume(request_id)

    # --- a tick ---------------------------------------------------------------------------------------------------

    def _room(self, flight: Flight) -> Room:
        """What a forward of this request's kind has room for: as much as is worth it, and fits."""
        profile = self._calibration.profile(flight.kind)
        room = profile.room if profile else self._unmeasured
        fits = self._fits.rows(flight.kind)
        return room if fits is None else Room(min(room.rows, fits), min(room.free, fits))

    def _step(self, batch: list[Flight]) -> None:
        first = batch[0]
        self._calibration.notice(first.key, first.model, first.job)
        failures = recovery.step(first.model, [flight.job for flight in batch], first.kind, self._fits)
        self.ticks += 1
        self._scheduler.charge(batch)
        for flight in batch:
            with self._answering(flight.request_id):
                if error := failures.get(flight.request_id):
                    raise error
                self._report(flight)

    def _report(self, flight: Flight) -> None:
        job, every = flight.job, flight.submit.preview_every
        due = every > 0 and job.step % every == 0 and not job.finished
        self._encoder.tell(flight, runner.believed(job) if due else None)
        if job.finished:
            self._land(flight)

    def _land(self, flight: Flight) -> None:
        """All steps are done: the slot is free, and the pictures are made on the encoder thread."""
        del self._flights[flight.request_id]
        self._scheduler.remove(flight)
        self._landing.append(flight)
        self._encoder.deliver(flight, then=lambda: self._inbox.put(partial(self._landing.remove, flight)))

    @property
    def _in_use(self) -> frozenset[str]:
        """Keys of the models that must stay where they are."""
        return frozenset(flight.key for flight in self._all_flights)

    @property
    def _all_flights(self) -> list[Flight]:
        return [*self._flights.values(), *self._landing]

    # --- failures -------------------------------------------------------------------------------------------------

    @contextmanager
    def _answering(self, request_id: str) -> Iterator[None]:
        """Whatever goes wrong inside ends this one request with a sentence, and nothing else."""
        try:
            yield
        except Exception as error:
            self._drop(request_id)
            self._emit(failure(request_id, error))

    def _drop(self, request_id: str) -> None:
        if flight := self._flights.pop(request_id, None):
            self._scheduler.remove(flight)
            self._encoder.quiet(flight)
            flight.job.close()
