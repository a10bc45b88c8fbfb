"""A step that ends well for as many requests as it can, whatever one of them, or the memory, does to it."""

from __future__ import annotations

import gc
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass

import torch

from t2i.engine import runner
from t2i.engine.whole import WholeJob
from t2i.families.pipeline import AnyModel

REGAIN_TICKS = 256
"""Steps after which forwards may be twice as large again as they were when memory ran out."""


@dataclass(slots=True)
class _Cap:
    rows: int
    failed: int
    """The most rows that did not fit."""
    ticks: int = 0


class Fits:
    """How many rows of a kind fit into memory at once: halved when it runs out, and regained slowly."""

    def __init__(self) -> None:
        self._caps: dict[Hashable, _Cap] = {}

    def rows(self, kind: Hashable) -> int | None:
        """None where memory did not run out."""
        cap = self._caps.get(kind)
        return None if cap is None else cap.rows

    def attempts(self, kind: Hashable, rows: int) -> Iterator[int]:
        """Into parts of how many to divide so many rows; whoever asks for another number found the last too large."""
        at_once = min(rows, self.rows(kind) or rows)
        while at_once > 1:
            yield at_once
            failed = max(at_once, self._caps[kind].failed if kind in self._caps else 0)
            at_once //= 2
            self._caps[kind] = _Cap(at_once, failed)
        yield at_once
        # What does not even fit by itself says nothing of the others.
        self._caps.pop(kind, None)

    def stepped(self, kind: Hashable) -> None:
        """A step of this kind found enough memory."""
        if cap := self._caps.get(kind):
            cap.ticks += 1
            if cap.ticks == REGAIN_TICKS:
                self._caps[kind] = _Cap(cap.rows * 2, cap.failed)
                if cap.rows * 2 >= cap.failed:
                    del self._caps[kind]


def step(model: AnyModel, jobs: list[runner.Job], kind: Hashable, fits: Fits) -> dict[str, Exception]:
    """One step of every job, which must be of one group and kind; why some could not do it, by their request ids.

    When memory runs out, the same rows go in ever smaller parts; only a job that is alone then and still does not fit
    fails. Whatever else goes wrong is the fault of one of them: whoever was not stepped yet is stepped alone, so that
    only that one fails.
    """
    before = [job.step for job in jobs]
    for at_once in _attempts(jobs, kind, fits):
        try:
            runner.step(model, jobs, at_once=at_once)
        except runner.NotFinite as error:
            return dict.fromkeys((job.request_id for job in error.jobs), error)
        except runner.OUT_OF_MEMORY as error:
            # Its frames hold the very tensors that were too many.
            failure: Exception = error.with_traceback(None)
        except Exception as error:
            failure = error
            break
        else:
            fits.stepped(kind)
            return {}
        free_memory()
    if len(jobs) == 1:
        return {jobs[0].request_id: failure}
    failures: dict[str, Exception] = {}
    for job, step_before in zip(jobs, before, strict=True):
        if job.step == step_before:
            failures |= step(model, [job], kind, fits)
    return failures


def free_memory() -> None:
    """Give back what nobody uses any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _attempts(jobs: list[runner.Job], kind: Hashable, fits: Fits) -> Iterable[int]:
    rows = sum(job.rows for job in jobs)
    if isinstance(jobs[0], WholeJob):
        return [rows]  # its call has ended with the error
    if jobs[0].request.exact:
        return [rows, rows]  # parts could draw other bits, but the second time there may be more memory
    return fits.attempts(kind, rows)
