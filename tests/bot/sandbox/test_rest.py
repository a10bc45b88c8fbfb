from __future__ import annotations

import json
from typing import Any

import aiohttp
import pytest

from bot.sandbox.server import Sandbox
from tests.bot.sandbox.conftest import RestClient
from tests.bot.sandbox.person import Person


async def test_answers_have_the_exact_content_type_and_rate_limit_headers(rest: RestClient) -> None:
    await rest("GET", "/users/@me")
    headers = rest.response_headers
    assert headers["Content-Type"] == "application/json"
    assert (headers["X-RateLimit-Limit"], headers["X-RateLimit-Remaining"]) == ("50", "49")
    assert 0 < float(headers["X-RateLimit-Reset-After"]) <= 1
    assert headers["X-RateLimit-Bucket"]


async def test_more_requests_than_the_bucket_holds_are_refused_for_a_while(rest: RestClient, bob: Person) -> None:
    path = f"/channels/{bob.channel_id}/messages"
    statuses = [(await rest("POST", path, {"content": "x"}))[0] for _ in range(6)]
    assert statuses == [200] * 5 + [429]
    assert rest.response_headers["Via"]
    assert 0 < int(rest.response_headers["Retry-After"]) <= 5
    # Another channel has a bucket of its own.
    other = next(c["id"] for c in (await bob.state())["channels"] if c["id"] != bob.channel_id)
    assert (await rest("POST", f"/channels/{other}/messages", {"content": "x"}))[0] == 200


async def test_the_wrong_token_and_unknown_routes_are_refused_as_discord_does(rest: RestClient) -> None:
    assert await rest("GET", "/nothing") == (404, {"message": "404: Not Found", "code": 0})
    assert await rest("PUT", "/users/@me") == (405, {"message": "405: Method Not Allowed", "code": 0})
    rest.headers = {"Authorization": "Bot stolen"}
    assert await rest("GET", "/users/@me") == (401, {"message": "401: Unauthorized", "code": 0})
    assert (await rest("GET", "/gateway"))[0] == 200


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/channels/1", 10003),
        ("/channels/1/messages/2", 10003),
        ("/guilds/1", 10004),
        ("/guilds/{guild}/members/1", 10007),
        ("/users/1", 10013),
        ("/applications/1/commands", 10002),
        ("/applications/{application}/commands/1", 10063),
        ("/applications/{application}/guilds/1/commands", 50001),
    ],
)
async def test_what_does_not_exist_has_its_own_code(sandbox: Sandbox, rest: RestClient, path: str, code: int) -> None:
    world = sandbox.world
    status, error = await rest("GET", path.format(guild=world.guild.id, application=world.application_id))
    assert (status, error["code"]) in {(404, code), (403, code)}


async def test_the_guild_can_be_read(sandbox: Sandbox, rest: RestClient, bob: Person) -> None:
    guild = f"/guilds/{sandbox.world.guild.id}"
    assert (await rest("GET", guild))[1]["name"] == "Imagine Sandbox"
    assert [r["name"] for r in (await rest("GET", f"{guild}/roles"))[1]] == [
        "@everyone",
        "Admin",
        "Moderator",
        "Imagine Bot",
    ]
    assert (await rest("GET", f"{guild}/members/{bob.id}"))[1]["user"]["username"] == "bob"
    members = (await rest("GET", f"{guild}/members?limit=2"))[1]
    assert len(members) == 2


async def test_overwriting_commands_keeps_the_ids_of_those_that_stay(sandbox: Sandbox, rest: RestClient) -> None:
    path = f"/applications/{sandbox.world.application_id}/commands"
    one, two = ({"name": name, "description": "Does"} for name in ("one", "two"))
    _, first = await rest("PUT", path, [one, two])
    _, second = await rest("PUT", path, [two | {"description": "Does more"}])
    assert [command["name"] for command in second] == ["two"]
    assert second[0]["id"] == first[1]["id"]
    assert second[0]["version"] != first[1]["version"]
    assert (await rest("GET", path))[1] == second
    status, _ = await rest("DELETE", f"{path}/{second[0]['id']}")
    assert (status, (await rest("GET", path))[1]) == (204, [])


@pytest.mark.parametrize(
    ("command", "field"),
    [
        ({"name": "Loud", "description": "x"}, "name"),
        ({"name": "quiet"}, "description"),
        ({"name": "quiet", "description": "x" * 101}, "description"),
        (
            {
                "name": "quiet",
                "description": "x",
                "options": [
                    {"type": 3, "name": "a", "description": "x"},
                    {"type": 3, "name": "b", "description": "x", "required": True},
                ],
            },
            "options",
        ),
        (
            {
                "name": "quiet",
                "description": "x",
                "options": [
                    {
                        "type": 3,
                        "name": "a",
                        "description": "x",
                        "choices": [{"name": str(i), "value": str(i)} for i in range(26)],
                    }
                ],
            },
            "options",
        ),
    ],
)
async def test_a_malformed_command_is_refused_by_field(
    sandbox: Sandbox, rest: RestClient, command: dict[str, Any], field: str
) -> None:
    status, error = await rest("POST", f"/applications/{sandbox.world.application_id}/commands", command)
    assert (status, error["code"]) == (400, 50035)
    assert field in error["errors"]


async def test_only_this_machine_and_its_own_page_are_answered(sandbox: Sandbox) -> None:
    async with aiohttp.ClientSession() as http:
        for headers in ({"Host": "evil.example"}, {"Origin": "https://evil.example"}):
            async with http.get(f"{sandbox.url}/sandbox/state", headers=headers) as response:
                assert response.status == 403
        async with http.get(f"{sandbox.url}/sandbox/state", headers={"Origin": sandbox.url}) as response:
            assert response.status == 200


async def test_the_page_gets_a_sentence_for_nonsense(sandbox: Sandbox, bob: Person) -> None:
    nonsense = ("{", "[]", json.dumps({"user": "me"}), json.dumps({"user": bob.id, "channel_id": "9"}))
    async with aiohttp.ClientSession(sandbox.url) as http:
        for data in nonsense:
            async with http.post("/sandbox/command", data=data) as response:
                assert 400 <= response.status < 500
                assert (await response.json())["error"].endswith(".")


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "example.org"])
async def test_the_sandbox_listens_on_loopback_only(host: str) -> None:
    with pytest.raises(ValueError, match="only listens on this machine"):
        await Sandbox().start(host)


async def test_the_page_and_its_files_are_served(sandbox: Sandbox) -> None:
    async with aiohttp.ClientSession(sandbox.url) as http:
        async with http.get("/") as page:
            assert (page.status, page.content_type) == (200, "text/html")
        async with http.get("/page/app.js") as script:
            assert (script.status, script.content_type) == (200, "application/javascript")
        async with http.get("/page/../server.py") as outside:
            assert outside.status == 404
        async with http.get("/cdn/embed/avatars/0.png") as avatar:
            assert (avatar.status, avatar.content_type) == (200, "image/png")
