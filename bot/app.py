"""One running bot: everything it needs, opened in order, and closed in reverse when it is asked to stop."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager

import aiohttp
import discord
from alembic.util.exc import CommandError
from sqlalchemy.exc import DatabaseError, DataError, IntegrityError, ProgrammingError

from bot.client import ImagineBot, point_at_sandbox
from bot.errors import DatabaseUnusable, DiscordRefused, DiscordUnreachable
from bot.lag import watched_loop
from bot.moderation.classifier import NO_CLASSIFIER, ClassifierProcess
from bot.priority import yielding_threads
from bot.services import wire
from bot.settings import Settings
from bot.storage.lock import exclusive
from bot.storage.session import Database, database_url
from t2i.engine.client import LocalEngine

log = logging.getLogger(__name__)

GRACE = 20.0
"""Seconds that jobs all but done get to end when the bot is asked to stop."""

SWITCH_INTERVAL = 0.001
"""Seconds after which a busy event loop lets the threads of the database go on; by default 5 ms for each statement."""

GARBAGE = 20_000
"""Objects that come to be before the collector looks at them: a crowd's requests would else be looked at in vain."""

AUTHENTICATION_FAILED = 4004


async def run(settings: Settings, token: str) -> None:
    """Serve until SIGTERM or SIGINT; a second signal leaves at once.

    Raises SettingsError, AlreadyRunning or DatabaseUnusable before anything was started, DiscordRefused when Discord
    will never let this token in, and DiscordUnreachable when it cannot be reached at the start.
    """
    if settings.discord_api_base:
        point_at_sandbox(settings.discord_api_base)
    stop = _stop_signal()
    asyncio.get_running_loop().set_default_executor(yielding_threads())
    async with AsyncExitStack() as stack:
        stack.enter_context(exclusive(settings.data_dir))
        database = Database(database_url(settings))
        stack.push_async_callback(database.close)
        with _database_explained():
            await stack.enter_async_context(database.exclusively())
            await database.upgrade()

        engine = LocalEngine(
            checkpoints_dir=settings.checkpoints_dir, default=settings.checkpoint, hardware=settings.hardware
        )
        stack.push_async_callback(engine.close)
        bot = await stack.enter_async_context(ImagineBot(settings.data_dir))
        classifier = None if settings.classifier == NO_CLASSIFIER else ClassifierProcess(settings.classifier)
        if classifier is not None:
            stack.push_async_callback(classifier.close)
            classifier.start()
        bot.services = wire(bot, settings, database, engine, classifier)
        dispatcher = bot.services.dispatcher

        with _discord_explained():
            await bot.login(token)
            await engine.start()
            await dispatcher.start()
            stack.push_async_callback(dispatcher.stop, GRACE)
            await bot.services.admission.redeem(bot)
            await stack.enter_async_context(watched_loop())
            # What lives as long as the bot need not be looked through by every collection, which holds up everybody.
            gc.freeze()
            gc.set_threshold(GARBAGE)
            sys.setswitchinterval(SWITCH_INTERVAL)
            await _until(stop, bot.connect())
        log.info("Stopping: jobs all but done get %g s, the others keep their place.", GRACE)


async def _until(stop: asyncio.Event, connection: Coroutine[None, None, None]) -> None:
    """Stay connected until `stop`; whatever ends the connection for good is raised."""
    connected = asyncio.create_task(connection, name="gateway")
    asked = asyncio.create_task(stop.wait(), name="stop signal")
    await asyncio.wait({connected, asked}, return_when=asyncio.FIRST_COMPLETED)
    asked.cancel()
    if connected.done():
        connected.result()


def _stop_signal() -> asyncio.Event:
    stop = asyncio.Event()

    def ask() -> None:
        if stop.is_set():
            os._exit(1)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ask)
    return stop


@contextmanager
def _database_explained() -> Iterator[None]:
    """Turns what keeps a database from being opened into a sentence that says what to do."""
    try:
        yield
    except CommandError:  # of the migrations: the database has one that is not among them
        raise DatabaseUnusable(
            "The database was written by a newer Imagine Bot: start that version again, or restore a backup of before."
        ) from None
    except (DataError, IntegrityError, ProgrammingError):  # a defect
        raise
    except (DatabaseError, OSError) as error:
        reason = str(getattr(error, "orig", error)).splitlines()[0].rstrip(".")
        raise DatabaseUnusable(
            f"The database cannot be used: {reason}. Start again once it can, or restore a backup, or look at "
            "IMAGINE_DATABASE_URL."
        ) from None


@contextmanager
def _discord_explained() -> Iterator[None]:
    """Turns what ends a connection for good into a sentence that says what to do."""
    try:
        yield
    except discord.LoginFailure:
        raise _wrong_token() from None
    except discord.PrivilegedIntentsRequired:
        raise DiscordRefused(
            "Discord refuses the gateway intents of this bot (4014), though it asks for no privileged one; "
            "look at the bot's page in the Discord developer portal."
        ) from None
    except discord.ConnectionClosed as closed:
        if closed.code == AUTHENTICATION_FAILED:
            raise _wrong_token() from None
        raise DiscordRefused(f"Discord closed the connection for good with code {closed.code}.") from None
    except (discord.HTTPException, aiohttp.ClientError, OSError) as error:
        raise DiscordUnreachable(f"Discord cannot be reached: {error}. Check the network and start again.") from None


def _wrong_token() -> DiscordRefused:
    return DiscordRefused(
        "Discord does not accept the token: copy it anew from the Bot page of the Discord developer portal "
        "and set it as IMAGINE_DISCORD_TOKEN."
    )
