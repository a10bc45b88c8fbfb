from __future__ import annotations

import asyncio
import base64
import json
import time
import zlib
from functools import partial
from typing import Any

import aiohttp
import discord
import pytest
from discord.gateway import DiscordWebSocket

from bot.sandbox.gateway import ROUND_TRIP
from bot.sandbox.server import Sandbox
from bot.sandbox.wire import Intent
from tests.bot.sandbox.conftest import PATIENCE, Bot, connected
from tests.bot.sandbox.person import Person


class ZlibStream:
    """What discord.py uses where zstandard is not installed."""

    COMPRESSION_TYPE = "zlib-stream"

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj()

    def decompress(self, data: bytes, /) -> str:
        assert data.endswith(b"\x00\x00\xff\xff")
        return self._inflate.decompress(data).decode()


@pytest.fixture(params=["none", "zlib-stream", "zstd-stream"])
def compression(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "none":
        monkeypatch.setattr(DiscordWebSocket, "from_client", partial(DiscordWebSocket.from_client, compress=False))
    elif request.param == "zlib-stream":
        monkeypatch.setattr(discord.utils, "_ActiveDecompressionContext", ZlibStream)
    else:
        assert discord.utils._ActiveDecompressionContext.COMPRESSION_TYPE == "zstd-stream"
    return str(request.param)


def greeter(**options: Any) -> Bot:
    bot = Bot(**options)

    @bot.tree.command(description="Greets")
    async def hello(interaction: discord.Interaction, name: str) -> None:
        await interaction.response.send_message(f"Hello {name}, from {interaction.user.display_name}")

    return bot


async def test_a_client_works_with_every_compression(compression: str, sandbox: Sandbox, bob: Person) -> None:
    async with connected(greeter(), sandbox):
        for name in ("one", "two"):
            await bob.types("hello", name=name)
            message = await bob.sees("message_create")
            assert message["content"] == f"Hello {name}, from Bob"


async def test_the_guild_arrives_whole(sandbox: Sandbox) -> None:
    bot = Bot()
    async with connected(bot, sandbox):
        (guild,) = bot.guilds
        assert guild.name == "Imagine Sandbox"
        assert [channel.name for channel in guild.text_channels] == [
            "imagine",
            "general",
            "gallery",
            "nsfw-art",
            "mod-log",
        ]
        assert guild.me.guild_permissions.attach_files
        assert not guild.me.guild_permissions.manage_messages
        assert next(channel for channel in guild.text_channels if channel.name == "nsfw-art").is_nsfw()


async def test_a_dropped_client_resumes_and_gets_what_it_missed(sandbox: Sandbox, bob: Person) -> None:
    bot = greeter()
    async with connected(bot, sandbox):
        sandbox.faults.inject({"gateway": "drop"})
        # Sent into the gap: the session keeps it until the client is back.
        await bob.types("hello", name="again")
        await bot.hears("RESUMED")
        assert (await bob.sees("message_create"))["content"] == "Hello again, from Bob"


async def test_told_to_reconnect_the_client_resumes(sandbox: Sandbox, bob: Person) -> None:
    bot = greeter()
    async with connected(bot, sandbox):
        sandbox.faults.inject({"gateway": "reconnect"})
        await bot.hears("RESUMED")
        await bob.types("hello", name="again")
        assert (await bob.sees("message_create"))["content"] == "Hello again, from Bob"


async def test_after_an_invalid_session_the_client_identifies_anew(sandbox: Sandbox, bob: Person) -> None:
    bot = greeter()
    async with connected(bot, sandbox):
        sandbox.faults.inject({"gateway": "invalid_session", "resumable": False})
        await bot.hears("READY")
        await bot.hears("GUILD_CREATE")
        await bob.types("hello", name="again")
        assert (await bob.sees("message_create"))["content"] == "Hello again, from Bob"


async def test_the_page_hears_whether_the_bot_is_there(sandbox: Sandbox, bob: Person) -> None:
    async with connected(greeter(), sandbox):
        assert (await bob.sees("presence"))["bot_online"] is True
        assert (await bob.state())["bot_online"] is True
    assert (await bob.sees("presence"))["bot_online"] is False


async def test_a_wrong_token_cannot_log_in(sandbox: Sandbox) -> None:
    with pytest.raises(discord.LoginFailure):
        async with connected(Bot(), sandbox, token="stolen"):
            pass


async def test_a_token_with_the_bots_id_in_front_is_accepted(sandbox: Sandbox) -> None:
    bot_id = base64.b64encode(str(sandbox.world.bot.id).encode()).decode()
    bot = Bot()
    async with connected(bot, sandbox, token=f"{bot_id.rstrip('=')}.{sandbox.token}"):
        assert bot.user is not None
        assert bot.user.id == sandbox.world.bot.id


async def test_a_privileged_intent_that_is_switched_off_is_refused(sandbox: Sandbox) -> None:
    with pytest.raises(discord.PrivilegedIntentsRequired):
        async with connected(Bot(intents=discord.Intents.all()), sandbox):
            pass


IDENTIFY: dict[str, Any] = {"op": 2, "d": {"token": "sandbox", "intents": 1, "properties": {}}}


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (["not json"], 4002),
        ([json.dumps({"op": 8, "d": {}})], 4003),
        ([json.dumps({"op": 2, "d": {"token": "stolen", "intents": 0}})], 4004),
        ([json.dumps(IDENTIFY), json.dumps(IDENTIFY)], 4005),
        ([json.dumps({"op": 2, "d": {"token": "sandbox", "intents": 0, "shard": [2, 2]}})], 4010),
        ([json.dumps({"op": 2, "d": {"token": "sandbox", "intents": 1 << 40}})], 4013),
        ([json.dumps({"op": 2, "d": {"token": "sandbox", "intents": int(Intent.MESSAGE_CONTENT)}})], 4014),
        ([json.dumps(IDENTIFY), json.dumps({"op": 99, "d": {}})], 4001),
    ],
)
async def test_the_gateway_closes_with_discords_code(sandbox: Sandbox, sent: list[str], code: int) -> None:
    async with aiohttp.ClientSession() as http, http.ws_connect(sandbox.gateway.url) as socket:
        for payload in sent:
            await socket.send_str(payload)
        async with asyncio.timeout(PATIENCE):
            async for _ in socket:
                pass
        assert socket.close_code == code


async def test_an_unknown_session_is_invalid_and_the_socket_stays_open_for_identify(sandbox: Sandbox) -> None:
    async with aiohttp.ClientSession() as http, http.ws_connect(sandbox.gateway.url) as socket:
        assert (await socket.receive_json())["op"] == 10
        await socket.send_json({"op": 6, "d": {"token": "sandbox", "session_id": "gone", "seq": 3}})
        assert await socket.receive_json() == {"op": 9, "t": None, "s": None, "d": False}
        await socket.send_json(IDENTIFY)
        assert (await socket.receive_json())["t"] == "READY"


async def test_a_heartbeat_is_acknowledged_as_late_as_over_a_network(sandbox: Sandbox) -> None:
    async with aiohttp.ClientSession() as http, http.ws_connect(sandbox.gateway.url) as socket:
        assert (await socket.receive_json())["op"] == 10
        began = time.monotonic()
        await socket.send_json({"op": 1, "d": None})
        assert await socket.receive_json() == {"op": 11, "t": None, "s": None, "d": None}
        assert time.monotonic() - began > ROUND_TRIP / 2  # a loop's clock may be a little behind


async def test_a_client_that_stops_beating_is_closed() -> None:
    sandbox = Sandbox(heartbeat_seconds=0.02)
    await sandbox.start()
    try:
        async with aiohttp.ClientSession() as http, http.ws_connect(sandbox.gateway.url) as socket:
            async with asyncio.timeout(PATIENCE):
                async for _ in socket:
                    pass
            assert socket.close_code == 4009
    finally:
        await sandbox.close()


async def test_without_the_content_intent_foreign_messages_come_empty_unless_the_bot_is_mentioned(
    sandbox: Sandbox, bob: Person
) -> None:
    bot = Bot()
    heard: asyncio.Queue[str] = asyncio.Queue()

    @bot.event
    async def on_message(message: discord.Message) -> None:
        heard.put_nowait(message.content)

    async with connected(bot, sandbox):
        await bob.does("message", content="a secret")
        mention = f"<@{sandbox.world.bot.id}> hello"
        await bob.does("message", content=mention)
        assert await asyncio.wait_for(heard.get(), PATIENCE) == ""
        assert await asyncio.wait_for(heard.get(), PATIENCE) == mention


async def test_members_come_in_a_chunk_when_asked_for(sandbox: Sandbox) -> None:
    bot = Bot()
    async with connected(bot, sandbox):
        found = await bot.guilds[0].query_members("ali", cache=False)
        assert [member.name for member in found] == ["alice"]
