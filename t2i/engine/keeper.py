"""The engine's errands: adding, removing and verifying files of checkpoints, on a thread beside the drawing."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from t2i.api import Accomplished, Add, Advanced, CheckpointError, Errand, Event, Failed, Remove, Shelved, Stage, Verify
from t2i.checkpoints import shelf
from t2i.checkpoints.add import add
from t2i.checkpoints.detect import detect
from t2i.checkpoints.files import verify
from t2i.checkpoints.registry import resolve
from t2i.checkpoints.transfer import Tell

TELL_SECONDS = 0.3
"""Between two words on the progress of one stage."""

logger = logging.getLogger(__name__)


class Keeper:
    """Does one errand after the other. `removed` hears the name of every checkpoint whose files went."""

    def __init__(
        self, checkpoints_dir: Path | None, emit: Callable[[Event], None], removed: Callable[[str], None]
    ) -> None:
        self._checkpoints_dir = checkpoints_dir
        self._emit = emit
        self._removed = removed
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="keeper")

    def run(self, errand: Errand) -> None:
        """Begin an errand, as soon as those before it have ended; may be called from any thread."""
        self._thread.submit(self._run, errand)

    def _run(self, errand: Errand) -> None:
        try:
            ended: Event = self._do(errand)
        except CheckpointError as error:
            ended = Failed(request_id=errand.request_id, code="checkpoint", message=str(error))
        except Exception:
            logger.exception("an errand failed")
            message = "The files could not be worked with, for a reason that stands in the log."
            ended = Failed(request_id=errand.request_id, code="engine", message=message)
        # Files may have been put there by hand too, so the folder is looked at whatever was done.
        self._emit(Shelved(shelf=shelf.survey(self._checkpoints_dir)))
        self._emit(ended)

    def _do(self, errand: Errand) -> Accomplished:
        if self._checkpoints_dir is None:
            raise CheckpointError("There is no folder of checkpoints: the operator has to set one.")
        match errand:
            case Add(source=source, name=name):
                added = add(source, self._checkpoints_dir, name, tell=self._teller(errand))
                lora = detect(added).kind == "lora"
                called = added.name.removesuffix(".safetensors")
                return Accomplished(request_id=errand.request_id, name=called, lora=lora)
            case Remove(name=name, lora=lora):
                shelf.remove(name, self._checkpoints_dir, lora=lora)
                if not lora:
                    self._removed(name)
                return Accomplished(request_id=errand.request_id, name=name, lora=lora)
            case Verify(checkpoint=name):
                path = resolve(name, self._checkpoints_dir)
                problems = verify(path, self._teller(errand))
                if problems:
                    raise CheckpointError(problems[0])
                detect(path)
                return Accomplished(request_id=errand.request_id, name=name)

    def _teller(self, errand: Errand) -> Tell:
        """Passes progress on, though not every word of it."""
        told: tuple[Stage | None, float] = (None, 0.0)

        def tell(stage: Stage, done: int, total: int) -> None:
            nonlocal told
            now = time.monotonic()
            if stage != told[0] or now - told[1] >= TELL_SECONDS or done == total:
                told = (stage, now)
                self._emit(Advanced(request_id=errand.request_id, stage=stage, done=done, total=total))

        return tell
