from __future__ import annotations

import asyncio

import aiohttp
import discord
import pytest

from bot.sandbox.server import Sandbox
from tests.bot.sandbox.conftest import PATIENCE, Bot, RestClient, connected
from tests.bot.sandbox.person import Person


async def test_a_route_fails_as_often_as_asked(sandbox: Sandbox, rest: RestClient, bob: Person) -> None:
    await control(sandbox, route="POST /channels/*/messages", status=503, times=2)
    path = f"/channels/{bob.channel_id}/messages"
    assert [(await rest("POST", path, {"content": "x"}))[0] for _ in range(3)] == [503, 503, 200]
    assert (await bob.sees("message_create"))["content"] == "x"


async def test_a_429_is_waited_out_by_the_library(sandbox: Sandbox, bob: Person) -> None:
    bot = Bot()
    async with connected(bot, sandbox):
        await control(sandbox, route="POST /channels/*/messages", status=429, retry_after=0.01)
        await bot.guilds[0].text_channels[0].send("in the end")
        assert (await bob.sees("message_create"))["content"] == "in the end"


async def test_a_chosen_refusal_reaches_the_library_with_its_code(sandbox: Sandbox) -> None:
    bot = Bot()
    async with connected(bot, sandbox):
        await control(sandbox, route="POST *", status=413, code=40005, message="Request entity too large")
        with pytest.raises(discord.HTTPException) as refused:
            await bot.guilds[0].text_channels[0].send("x")
        assert (refused.value.status, refused.value.code) == (413, 40005)


@pytest.mark.parametrize(("moment", "arrived"), [("before", 0), ("after", 1)])
async def test_a_connection_is_cut_before_or_after_the_effect(
    sandbox: Sandbox, rest: RestClient, bob: Person, moment: str, arrived: int
) -> None:
    await control(sandbox, route="POST /channels/*", drop=moment)
    with pytest.raises(aiohttp.ClientConnectionError):
        await rest("POST", f"/channels/{bob.channel_id}/messages", {"content": "x"})
    assert len((await bob.state())["messages"][bob.channel_id]) == arrived


async def test_a_deleted_channel_is_gone_for_bot_and_page(sandbox: Sandbox, rest: RestClient, bob: Person) -> None:
    bot = Bot()
    async with connected(bot, sandbox):
        await control(sandbox, world="delete_channel", channel_id=bob.channel_id)
        await bot.hears("CHANNEL_DELETE")
        assert "imagine" not in [channel["name"] for channel in await bob.sees("channels")]
        status, error = await rest("POST", f"/channels/{bob.channel_id}/messages", {"content": "x"})
        assert (status, error["code"]) == (404, 10003)


async def test_a_bot_that_was_removed_keeps_running_without_access(sandbox: Sandbox, rest: RestClient) -> None:
    bot = Bot()
    async with connected(bot, sandbox):
        await control(sandbox, world="remove_bot")
        await bot.hears("GUILD_DELETE")
        status, error = await rest("GET", f"/guilds/{sandbox.world.guild.id}")
        assert (status, error["code"]) == (403, 50001)


async def test_a_close_with_a_final_code_ends_the_client(sandbox: Sandbox) -> None:
    async with connected(Bot(), sandbox) as running:
        await control(sandbox, gateway="close", code=4004)
        with pytest.raises(discord.ConnectionClosed) as closed:
            await asyncio.wait_for(running, PATIENCE)
    assert closed.value.code == 4004


async def test_an_unknown_fault_is_refused_with_a_sentence(sandbox: Sandbox) -> None:
    async with aiohttp.ClientSession(sandbox.url) as http:
        for fault in ({"route": "GET *", "colour": "red"}, {"gateway": "hum"}, {"world": "ends"}, {}):
            async with http.post("/sandbox/faults", json=fault) as response:
                assert response.status == 400
                assert (await response.json())["error"].endswith(".")


async def test_armed_faults_are_listed_and_can_be_disarmed(sandbox: Sandbox, rest: RestClient) -> None:
    await control(sandbox, route="GET /users/@me", status=500, times=9)
    async with aiohttp.ClientSession(sandbox.url) as http:
        async with http.get("/sandbox/faults") as response:
            assert [fault["times"] for fault in (await response.json())["armed"]] == [9]
        async with http.delete("/sandbox/faults") as response:
            assert response.status == 200
    assert (await rest("GET", "/users/@me"))[0] == 200


async def control(sandbox: Sandbox, **fault: object) -> None:
    async with aiohttp.ClientSession(sandbox.url) as http, http.post("/sandbox/faults", json=fault) as response:
        assert response.status == 200, await response.text()
