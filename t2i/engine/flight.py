"""A request in flight, as the scheduler and its client know it."""

from __future__ import annotations

import time
from collections.abc import Hashable
from itertools import accumulate

from t2i.api import Submit
from t2i.engine import runner
from t2i.engine.calibration import Calibration, Key
from t2i.engine.models import key_of
from t2i.families.pipeline import AnyModel


class Flight:
    """What was asked, what steps it, and how far its client knows it to be."""

    def __init__(self, submit: Submit, model: AnyModel, job: runner.Job, calibration: Calibration) -> None:
        self.submit = submit
        self.key = key_of(submit)
        """Under which the model is known that draws it."""
        self.request_id = submit.request_id
        self.model = model
        self.job = job
        self.started = time.monotonic()
        self.reported = 0
        """Steps."""
        self.over = False
        """Whether nothing is to be told of its progress any more."""
        costs = [rows * calibration.row_microseconds(Key.of(model, kind)) for kind, rows in runner.itinerary(job)]
        self._work = list(accumulate(reversed(costs), initial=0))

    @property
    def group(self) -> Hashable:
        return self.key, self.job.group

    @property
    def kind(self) -> Key:
        """What tells how many rows are worth a forward, and how many fit."""
        return Key.of(self.model, runner.kind(self.job))

    @property
    def rows(self) -> int:
        return self.job.rows

    @property
    def work(self) -> int:
        """Microseconds that the steps left would take if all rows shared a forward with as many as is best."""
        return self._work[self.job.steps - self.job.step]
