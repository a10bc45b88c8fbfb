"""A little of Discord on a real socket: logs a bot in, takes edits, and answers as a test told it to."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import BodyPartReader, web

DROP = "drop the connection"


@dataclass(frozen=True)
class Refusal:
    status: int
    code: int = 0


Answer = str | Refusal | None
"""DROP, a refusal, or None for yes."""


@dataclass(frozen=True)
class Edit:
    """One edit that was taken."""

    message_id: int
    route: str
    """`token` or `bot`."""
    text: str
    files: dict[str, bytes]
    payload: dict[str, Any] = field(repr=False)


class DiscordStandIn:
    def __init__(self) -> None:
        self.base = ""
        self.tokens: dict[str, int] = {}
        """The message of each interaction that was acknowledged."""
        self.messages: set[int] = set()
        self.edits: list[Edit] = []
        self.attempts: list[str] = []
        """The route of every edit that was asked for."""
        self.answers: deque[Answer] = deque()
        """What the next edits get; afterwards yes."""
        self.rule: Callable[[Edit], Answer] = lambda edit: None
        self.gate = asyncio.Event()
        """Edits wait for it before they are answered."""
        self.gate.set()
        self.delay = 0.0
        """Seconds before an edit is answered."""
        self._news = asyncio.Condition()
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.add_routes(
            [
                web.get("/users/@me", self._me),
                web.get("/oauth2/applications/@me", self._application),
                web.patch("/webhooks/77/{token}/messages/@original", self._edit_by_token),
                web.patch("/channels/{channel}/messages/{message}", self._edit_as_bot),
                web.delete("/channels/{channel}/messages/{message}", self._delete),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.base = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def close(self) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    def acknowledge(self, token: str, message_id: int) -> None:
        self.tokens[token] = message_id
        self.messages.add(message_id)

    async def until(self, told: Callable[[], bool]) -> None:
        """Wait until `told()` is true; looked at after every edit that was asked for."""
        async with asyncio.timeout(10), self._news:
            await self._news.wait_for(told)

    async def _me(self, request: web.Request) -> web.Response:
        return _json({"id": "77", "username": "bot", "discriminator": "0", "avatar": None, "bot": True})

    async def _application(self, request: web.Request) -> web.Response:
        return _json(
            {
                "id": "77",
                "name": "bot",
                "icon": None,
                "description": "",
                "summary": "",
                "bot_public": True,
                "bot_require_code_grant": False,
                "verify_key": "0",
                "owner": {"id": "1", "username": "owner", "discriminator": "0", "avatar": None},
                "team": None,
                "flags": 0,
            }
        )

    async def _edit_by_token(self, request: web.Request) -> web.Response:
        message_id = self.tokens.get(request.match_info["token"])
        return await self._edit(request, "token", message_id, Refusal(404, 10015))

    async def _edit_as_bot(self, request: web.Request) -> web.Response:
        return await self._edit(request, "bot", int(request.match_info["message"]), Refusal(404, 10008))

    async def _delete(self, request: web.Request) -> web.Response:
        self.messages.discard(int(request.match_info["message"]))
        return web.Response(status=204)

    async def _edit(self, request: web.Request, route: str, message_id: int | None, unknown: Refusal) -> web.Response:
        payload, files = await _read(request)
        async with self._news:
            self.attempts.append(route)
            self._news.notify_all()
        await self.gate.wait()
        await asyncio.sleep(self.delay)
        edit = Edit(message_id or 0, route, "\n".join(_texts(payload["components"])), files, payload)
        answer = self.answers.popleft() if self.answers else self.rule(edit)
        if answer is None and (message_id is None or message_id not in self.messages):
            answer = unknown
        if answer == DROP:
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        if isinstance(answer, Refusal):
            body = {"code": answer.code, "message": "refused", "retry_after": 0.01}
            return _json(body, status=answer.status)
        async with self._news:
            self.edits.append(edit)
            self._news.notify_all()
        return _json({"id": str(message_id)})


def _json(body: dict[str, Any], status: int = 200) -> web.Response:
    # Without a charset: discord.py compares the whole header.
    return web.Response(body=json.dumps(body).encode(), status=status, content_type="application/json")


async def _read(request: web.Request) -> tuple[dict[str, Any], dict[str, bytes]]:
    if request.content_type == "application/json":
        return await request.json(), {}
    payload: dict[str, Any] = {}
    files: dict[str, bytes] = {}
    async for part in await request.multipart():
        assert isinstance(part, BodyPartReader)
        if part.name == "payload_json":
            payload = json.loads(await part.text())
        else:
            files[part.filename or ""] = bytes(await part.read())
    return payload, files


def _texts(components: list[dict[str, Any]]) -> list[str]:
    return [component["content"] for component in components if "content" in component]
