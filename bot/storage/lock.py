"""One instance per data folder: two dispatchers on one queue would each take the other's running jobs for lost."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bot.errors import AlreadyRunning, SettingsError


@contextmanager
def exclusive(data_dir: Path) -> Iterator[None]:
    """Hold the data folder, creating it when needed, until the block or the process ends.

    Raises AlreadyRunning, and SettingsError when the folder cannot be written.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (data_dir / "lock").open("a+")
    except OSError as error:
        raise SettingsError(
            f"The data folder {data_dir} cannot be written ({error.strerror}): "
            "change its owner or set IMAGINE_DATA_DIR to another folder."
        ) from None
    with lock as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise AlreadyRunning(
                f"Another Imagine Bot (process {holder}) is using the data folder {data_dir}; "
                "stop it first or set IMAGINE_DATA_DIR to another folder."
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
