"""Somebody at the page: acts through the same requests, and sees what the live socket shows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Self

import aiohttp

from bot.sandbox.server import Sandbox

Json = dict[str, Any]


class Refused(Exception):
    """The sandbox refused an action with a sentence."""


class Person:
    def __init__(self, sandbox: Sandbox, username: str, channel: str = "imagine") -> None:
        world = sandbox.world
        self.id = str(next(user.id for user in world.users.values() if user.username == username))
        self.channel_id = str(next(c.id for c in world.guild.channels.values() if c.name == channel))
        self._url = sandbox.url
        self._seen: list[Json] = []
        self._news = asyncio.Condition()

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(self._url)
        self._socket = await self._http.ws_connect(f"/sandbox/live?user={self.id}")
        self._reader = asyncio.create_task(self._read())
        await self.sees("hello")
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)
        await self._socket.close()
        await self._http.close()

    async def _read(self) -> None:
        async for message in self._socket:
            async with self._news:
                self._seen.append(message.json())
                self._news.notify_all()

    async def sees(self, op: str, matching: Callable[[Json], bool] = lambda _: True) -> Json:
        """The first event of this kind, past or still to come; it is taken out, so the next call sees the next."""

        def found() -> Json | None:
            return next((event for event in self._seen if event["op"] == op and matching(event["d"])), None)

        async with self._news:
            await asyncio.wait_for(self._news.wait_for(lambda: found() is not None), 5)
            event = found()
            assert event is not None
            self._seen.remove(event)
            data: Json = event["d"]
            return data

    async def state(self) -> Json:
        async with self._http.get("/sandbox/state", params={"user": self.id}) as response:
            state: Json = await response.json()
            return state

    async def does(self, action: str, **body: Any) -> Json:
        """POST an action as this person. Raises Refused with the sandbox's sentence."""
        body = {"user": self.id, "channel_id": self.channel_id, **body}
        async with self._http.post(f"/sandbox/{action}", json=body) as response:
            answer: Json = await response.json()
            if response.status != 200:
                raise Refused(answer["error"])
            return answer

    async def types(self, command: str, subcommand: str | None = None, **options: Any) -> str:
        answer = await self.does("command", command=command, subcommand=subcommand, options=options)
        interaction_id: str = answer["interaction_id"]
        return interaction_id

    async def presses(self, message: Json, custom_id: str, values: list[str] | None = None) -> str:
        answer = await self.does("component", message_id=message["id"], custom_id=custom_id, values=values)
        interaction_id: str = answer["interaction_id"]
        return interaction_id
