"""A sandbox, and a real discord.py client that is connected to it, for each test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import discord
import pytest
import yarl
from discord import app_commands
from discord.gateway import DiscordWebSocket
from discord.http import Route

from bot.sandbox.server import Sandbox
from tests.bot.sandbox.person import Person

PATIENCE = 5.0
"""Seconds a test waits for anything at all."""


class Bot(discord.Client):
    """A client with a command tree, as small as the library allows."""

    def __init__(self, **options: object) -> None:
        super().__init__(intents=discord.Intents.default(), guild_ready_timeout=0.05, **options)
        self.tree = app_commands.CommandTree(self)

    async def before_identify_hook(self, shard_id: int | None, *, initial: bool = False) -> None:
        """Discord's 5 seconds between two IDENTIFYs would only slow the tests."""

    async def on_error(self, event: str, *args: object, **kwargs: object) -> None:
        self.dispatch("test_error", event)


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox() as running:
        yield running


@pytest.fixture(autouse=True)
def discord_points_home(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever a test sets on the library is undone afterwards."""
    monkeypatch.setattr(Route, "BASE", Route.BASE)
    monkeypatch.setattr(DiscordWebSocket, "DEFAULT_GATEWAY", DiscordWebSocket.DEFAULT_GATEWAY)
    yield


@asynccontextmanager
async def connected(
    bot: discord.Client, sandbox: Sandbox, token: str | None = None
) -> AsyncIterator[asyncio.Task[None]]:
    """The client, logged in and READY; it is closed at the end."""
    Route.BASE = sandbox.api_base
    DiscordWebSocket.DEFAULT_GATEWAY = yarl.URL(sandbox.gateway.url)
    ready = asyncio.Event()

    async def on_connect() -> None:
        ready.set()

    bot.event(on_connect)
    async with bot:
        running = asyncio.create_task(bot.start(token or sandbox.token))
        waiting = asyncio.create_task(ready.wait())
        await asyncio.wait({running, waiting}, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if running.done():
            running.result()
        try:
            yield running
        finally:
            await bot.close()
            await asyncio.gather(running, return_exceptions=True)


@pytest.fixture
async def bob(sandbox: Sandbox) -> AsyncIterator[Person]:
    async with Person(sandbox, "bob") as person:
        yield person


@pytest.fixture
async def alice(sandbox: Sandbox) -> AsyncIterator[Person]:
    async with Person(sandbox, "alice") as person:
        yield person
