"""Pictures are made on a thread of their own, so that steps never wait for them: previews and results."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from torch import Tensor

from t2i.api import Done, EngineError, Event, ImageReady, Progress
from t2i.engine import runner
from t2i.engine.failures import failure
from t2i.engine.flight import Flight
from t2i.imaging.judge import is_flat

PREVIEW_SHARE = 0.03
"""Of the time that one processor has, for previews: where steps are quick, not every one of them is worth a look."""

logger = logging.getLogger(__name__)


class Encoder:
    """`tell`, `deliver` and `quiet` are called by the stepping thread; `emit` is called by both threads."""

    def __init__(self, emit: Callable[[Event], None]) -> None:
        self._emit = emit
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="encoder")
        self._lock = threading.Lock()
        self._believed: dict[Flight, Tensor] = {}
        """What is to be shown next of each request; a newer one takes its place. Who waits longest comes first."""
        self._showing = False
        self._rests_until = 0.0

    def tell(self, flight: Flight, believed: Tensor | None) -> None:
        """Tell of the steps that are done, and show soon the clean latents it believes in now, if any are given."""
        with self._lock:
            flight.reported = flight.job.step
            self._progress(flight, None)
            if believed is not None:
                self._believed[flight] = believed
            if self._believed and not self._showing and time.monotonic() >= self._rests_until:
                self._showing = True
                self._thread.submit(self._show)

    def quiet(self, flight: Flight) -> None:
        """Tell no more of its progress."""
        with self._lock:
            flight.over = True
            self._believed.pop(flight, None)

    def deliver(self, flight: Flight, then: Callable[[], None]) -> None:
        """Make the pictures of a request whose steps are all done, and call `then`, whatever comes of it."""
        self.quiet(flight)
        self._thread.submit(self._deliver, flight, then)

    def close(self) -> None:
        """Wait until everything is delivered."""
        self._thread.shutdown(wait=True)

    def _show(self) -> None:
        """Make one preview, and rest in proportion to what it took."""
        began = time.thread_time()
        with self._lock:
            flight = next(iter(self._believed), None)
            believed = self._believed.pop(flight) if flight else None
        preview = None
        if flight and believed is not None:
            try:
                preview = runner.sheet(flight.model, believed)
            except Exception:
                logger.warning("no preview of request %s", flight.request_id, exc_info=True)
        with self._lock:
            self._showing = False
            self._rests_until = time.monotonic() + (time.thread_time() - began) / PREVIEW_SHARE
            if flight and preview and not flight.over:
                self._progress(flight, preview)

    def _progress(self, flight: Flight, preview: bytes | None) -> None:
        self._emit(
            Progress(request_id=flight.request_id, step=flight.reported, steps=flight.job.steps, preview=preview)
        )

    def _deliver(self, flight: Flight, then: Callable[[], None]) -> None:
        try:
            for image in runner.results(flight.model, flight.job):
                self._emit(image)
                if flight.submit.trial:
                    _require_something(image, flight.submit.checkpoint)
            self._emit(Done(request_id=flight.request_id, seconds=time.monotonic() - flight.started))
        except Exception as error:
            self._emit(failure(flight.request_id, error))
        finally:
            then()


def _require_something(image: ImageReady, checkpoint: str) -> None:
    """Raises EngineError for a picture that is of one colour all over, as broken weights draw."""
    if is_flat(image.png):
        raise EngineError(f"{checkpoint} draws nothing but one colour.", code="numerics")
