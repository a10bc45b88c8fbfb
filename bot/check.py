"""`imagine-bot check`: what is in order, and how to mend what is not."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy

from bot import settings as settings_module
from bot.errors import NotJudged, SettingsError
from bot.moderation.classifier import NO_CLASSIFIER, ClassifierProcess
from bot.settings import Settings
from bot.storage.session import Database, database_url
from t2i.engine.client import LocalEngine

ENGINE_START = 180.0
"""Seconds the engine may take to load its checkpoint."""

LITTLE_SPACE = 1 << 30
"""Bytes free below which a data folder is about to be too small."""


class Trouble(Exception):
    """One sentence that says what is wrong and how to mend it."""


@dataclass(frozen=True, slots=True)
class Finding:
    name: str
    ok: bool
    sentence: str

    def __str__(self) -> str:
        return f"{'ok  ' if self.ok else 'mend'}  {self.name:<10}{self.sentence}"


async def check() -> AsyncIterator[Finding]:
    """One finding after the other, as they are known; the rest is left out when the settings cannot be read."""
    try:
        settings = settings_module.load()
    except SettingsError as error:
        yield Finding("settings", False, str(error))
        return
    yield Finding("settings", True, "every value can be read")
    for name, examine in (
        ("token", _token),
        ("data", _data_dir),
        ("database", _database),
        ("pictures", _pictures),
        ("engine", _engine),
    ):
        yield await _examined(name, examine, settings)
    for finding in await _checkpoints(settings):
        yield finding


async def _examined(name: str, examine: Callable[[Settings], Awaitable[str]], settings: Settings) -> Finding:
    try:
        return Finding(name, True, await examine(settings))
    except (Trouble, SettingsError) as trouble:
        return Finding(name, False, str(trouble))


async def _token(settings: Settings) -> str:
    settings.token()
    return "there is one; whether Discord accepts it shows at `imagine-bot run`"


async def _data_dir(settings: Settings) -> str:
    folder = settings.data_dir.absolute()
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise Trouble(f"{nearest} cannot be written: change its owner or set IMAGINE_DATA_DIR to another folder.")
    free = shutil.disk_usage(nearest).free
    if free < LITTLE_SPACE:
        raise Trouble(f"{folder} has only {free / 1e6:.0f} MB left: free some space.")
    return f"{folder} can be written and has {free / 1e9:.1f} GB left"


async def _database(settings: Settings) -> str:
    database = Database(database_url(settings))
    if database.is_sqlite and not _exists(database.url.database):
        return "is made at the first start"
    try:
        async with database.read() as connection:
            jobs = await connection.scalar(sqlalchemy.text("SELECT count(*) FROM jobs"))
        return f"answers and holds {jobs} jobs"
    except sqlalchemy.exc.SQLAlchemyError as error:
        reason = str(getattr(error, "orig", error)).splitlines()[0]
        raise Trouble(f"does not answer ({reason}): look at IMAGINE_DATABASE_URL or restore a backup.") from None
    finally:
        await database.close()


def _exists(file: str | None) -> bool:
    return file is not None and Path(file).exists()


async def _pictures(settings: Settings) -> str:
    if settings.classifier == NO_CLASSIFIER:
        shown = "are shown" if settings.accept_unjudged else "are not shown outside age-restricted channels"
        return f"are judged by nothing and {shown}"
    classifier = ClassifierProcess(settings.classifier)
    try:
        await classifier.score([])
    except NotJudged:
        raise Trouble(
            f"{settings.classifier!r} does not start, and the reason stands above: install what it lacks, or set "
            "IMAGINE_CLASSIFIER to open-nsfw."
        ) from None
    finally:
        await classifier.close()
    return f"are judged by {settings.classifier}"


async def _engine(settings: Settings) -> str:
    engine = LocalEngine(
        checkpoints_dir=settings.checkpoints_dir, default=settings.checkpoint, hardware=settings.hardware
    )
    await engine.start()
    starting = engine.problem
    try:
        async with asyncio.timeout(ENGINE_START):
            while engine.problem is not None:
                if engine.problem != starting:
                    raise Trouble(f"checkpoint {settings.checkpoint!r} does not start: the reason stands above.")
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise Trouble(f"does not start within {ENGINE_START:g} s on device {settings.device!r}.") from None
    finally:
        await engine.close()
    offered = ", ".join(info.name for info in engine.checkpoints())
    return f"draws with {settings.checkpoint}; offered: {offered}"


async def _checkpoints(settings: Settings) -> list[Finding]:
    """One finding for each checkpoint: all of its files are compared with their hashes, in a process of its own."""
    folder = ["--dir", str(settings.checkpoints_dir)] if settings.checkpoints_dir else []
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "t2i.cli", "checkpoints", "verify", "--json", *folder),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    out, _ = await process.communicate()
    try:
        problems: dict[str, list[str]] = json.loads(out)
    except ValueError:
        return [Finding("files", False, "the checkpoints cannot be read: see what `t2i checkpoints verify` says.")]
    return [
        Finding("files", not sentences, " ".join(sentences) or f"{name}: every file is as it should be")
        for name, sentences in problems.items()
    ]
