"""A sandbox for each test, people at its page, and a real discord.py client that connects to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
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

    def __init__(self, **options: Any) -> None:
        options.setdefault("intents", discord.Intents.default())
        super().__init__(guild_ready_timeout=0.0, **options)
        self.tree = app_commands.CommandTree(self)
        self.events: asyncio.Queue[str] = asyncio.Queue()

    async def before_identify_hook(self, shard_id: int | None, *, initial: bool = False) -> None:
        """Discord's 5 seconds between two IDENTIFYs would only slow the tests."""

    async def on_socket_event_type(self, name: str) -> None:
        self.events.put_nowait(name)

    async def hears(self, name: str) -> None:
        """Until the gateway dispatched such an event."""
        async with asyncio.timeout(PATIENCE):
            while await self.events.get() != name:
                pass


@asynccontextmanager
async def connected(bot: Bot, sandbox: Sandbox, token: str | None = None) -> AsyncIterator[asyncio.Task[None]]:
    """The client, its commands registered and its guild there; closed at the end. Raises what ends `start` early."""
    Route.BASE = sandbox.api_base
    DiscordWebSocket.DEFAULT_GATEWAY = yarl.URL(sandbox.gateway.url)
    async with bot:
        running = asyncio.create_task(bot.start(token or sandbox.token))
        there = asyncio.create_task(bot.hears("GUILD_CREATE"))
        await asyncio.wait({running, there}, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            there.cancel()
            running.result()
        await there
        if bot.tree.get_commands():
            await bot.tree.sync()
        try:
            yield running
        finally:
            await bot.close()
            await asyncio.gather(running, return_exceptions=True)


@pytest.fixture(autouse=True)
def discord_points_home(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever a test sets on the library is undone afterwards."""
    monkeypatch.setattr(Route, "BASE", Route.BASE)
    monkeypatch.setattr(DiscordWebSocket, "DEFAULT_GATEWAY", DiscordWebSocket.DEFAULT_GATEWAY)
    yield


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox() as running:
        yield running


@pytest.fixture
async def bob(sandbox: Sandbox) -> AsyncIterator[Person]:
    async with Person(sandbox, "bob") as person:
        yield person


@pytest.fixture
async def alice(sandbox: Sandbox) -> AsyncIterator[Person]:
    async with Person(sandbox, "alice") as person:
        yield person


class RestClient:
    """The REST API without a library in between."""

    def __init__(self, sandbox: Sandbox, http: aiohttp.ClientSession) -> None:
        self.base = sandbox.api_base
        self.headers = {"Authorization": f"Bot {sandbox.token}"}
        self._http = http

    async def __call__(self, method: str, path: str, body: Any = None, **options: Any) -> tuple[int, Any]:
        """Status and JSON body."""
        if body is not None:
            options["json"] = body
        async with self._http.request(method, self.base + path, headers=self.headers, **options) as response:
            self.response_headers = response.headers
            return response.status, await response.json() if response.status != 204 else None


@pytest.fixture
async def rest(sandbox: Sandbox) -> AsyncIterator[RestClient]:
    async with aiohttp.ClientSession() as http:
        yield RestClient(sandbox, http)
