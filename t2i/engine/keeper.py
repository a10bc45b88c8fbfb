"""The engine's errands: adding, removing and verifying files of checkpoints, on a thread beside the drawing."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from t2i.api import (
    Accomplished,
    Add,
    Advanced,
    Cancelled,
    CheckpointError,
    Errand,
    Event,
    Failed,
    Remove,
    Shelved,
    Stage,
    Verify,
)
from t2i.checkpoints import shelf
from t2i.checkpoints.add import add
from t2i.checkpoints.detect import detect
from t2i.checkpoints.files import verify
from t2i.checkpoints.registry import available
from t2i.checkpoints.transfer import Tell

TELL_SECONDS = 0.3
"""Between two words on the progress of one stage."""

logger = logging.getLogger(__name__)


class _CalledOff(Exception):
    """Raised where an errand is at work, when nobody wants it any more."""


class Keeper:
    """Does one errand after the other. `removed` hears the name of every checkpoint whose files went."""

    def __init__(
        self, checkpoints_dir: Path | None, emit: Callable[[Event], None], removed: Callable[[str], None]
    ) -> None:
        self._checkpoints_dir = checkpoints_dir
        self._emit = emit
        self._removed = removed
        self._pending: set[str] = set()
        self._cancelled: set[str] = set()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="keeper")

    def run(self, errand: Errand) -> None:
        """Begin an errand, as soon as those before it have ended; may be called from any thread."""
        self._pending.add(errand.request_id)
        self._thread.submit(self._run, errand)

    def cancel(self, request_id: str) -> None:
        """End an errand as soon as it would tell of progress, with nothing changed; any other id is left alone."""
        if request_id in self._pending:
            self._cancelled.add(request_id)

    def _run(self, errand: Errand) -> None:
        try:
            ended: Event = self._do(errand)
        except _CalledOff:
            ended = Cancelled(request_id=errand.request_id)
        except CheckpointError as error:
            ended = Failed(request_id=errand.request_id, code="checkpoint", message=str(error))
        except Exception:
            logger.exception("an errand failed")
            message = "The files could not be worked with, for a reason that stands in the log."
            ended = Failed(request_id=errand.request_id, code="engine", message=message)
        for known in (self._pending, self._cancelled):
            known.discard(errand.request_id)
        # Files may have been put there by hand too, so the folder is looked at whatever was done.
        self._emit(Shelved(shelf=shelf.survey(self._checkpoints_dir)))
        self._emit(ended)

    def _do(self, errand: Errand) -> Accomplished:
        match errand:
            case Verify(checkpoint=name):
                known = available(self._checkpoints_dir)
                if name not in known:
                    raise CheckpointError(f"There is no checkpoint {name!r}; there is {', '.join(known)}.")
                problems = verify(known[name], self._teller(errand))
                if problems:
                    raise CheckpointError(problems[0])
                detect(known[name])
                return Accomplished(request_id=errand.request_id, name=name)
            case _ if self._checkpoints_dir is None:
                raise CheckpointError("There is no folder of checkpoints: the bot's operator has to set one.")
            case Add(source=source, name=name, anywhere=anywhere):
                added = add(source, self._checkpoints_dir, name, anywhere=anywhere, tell=self._teller(errand))
                lora = detect(added).kind == "lora"
                called = added.name.removesuffix(".safetensors")
                return Accomplished(request_id=errand.request_id, name=called, lora=lora)
            case Remove(name=name, lora=lora):
                shelf.remove(name, self._checkpoints_dir, lora=lora)
                if not lora:
                    self._removed(name)
                return Accomplished(request_id=errand.request_id, name=name, lora=lora)

    def _teller(self, errand: Errand) -> Tell:
        """Passes progress on, though not every word of it."""
        told: tuple[Stage | None, float] = (None, 0.0)

        def tell(stage: Stage, done: int, total: int) -> None:
            nonlocal told
            if errand.request_id in self._cancelled and stage != "downloading":
                raise _CalledOff
            now = time.monotonic()
            if stage != told[0] or now - told[1] >= TELL_SECONDS or done == total:
                told = (stage, now)
                self._emit(Advanced(request_id=errand.request_id, stage=stage, done=done, total=total))

        return tell
