"""The whole bot under test: a sandbox, the bot's own process with its engine, and people who type and press."""

from __future__ import annotations

import asyncio
import functools
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import aiohttp
import psutil

from bot import child
from bot.sandbox.server import Sandbox

Json = dict[str, Any]
T = TypeVar("T")

PATIENCE = 60.0
"""Seconds a test waits for anything at all; an engine that starts on a busy machine takes some."""
ROOT = Path(__file__).parents[3]


class Refused(Exception):
    """The page did not let the person do that, or the bot did not answer in time."""


class Bot:
    """The bot's process, which a test may stop and start at will."""

    def __init__(self, sandbox: Sandbox, data_dir: Path, settings: dict[str, str]) -> None:
        self.log: list[str] = []
        self.data_dir = data_dir
        self._env = child.environment(sandbox.api_base, sandbox.token, data_dir)
        self._env |= {"PYTHONPATH": str(ROOT), "IMAGINE_PROGRESS_INTERVAL": "0.2", **settings}
        self._news = asyncio.Condition()

    async def start(self) -> None:
        self.log.clear()
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bot", "run", "--with-parent"),
            env=self._env,
            cwd=self.data_dir.parent,
            stderr=asyncio.subprocess.PIPE,
        )
        self._reader = asyncio.create_task(self._read())

    async def kill(self) -> None:
        self.process.kill()
        await self.ended()

    def terminate(self) -> None:
        self.process.terminate()

    async def stop(self) -> int:
        """SIGTERM, unless it has ended, and the exit code."""
        if self.process.returncode is None:
            self.terminate()
        return await self.ended()

    async def ended(self) -> int:
        """Until the process ends; its exit code."""
        await asyncio.wait_for(self._reader, PATIENCE)
        return await asyncio.wait_for(self.process.wait(), PATIENCE)

    async def says(self, words: str) -> None:
        """Until its log holds these words."""
        async with self._news, asyncio.timeout(PATIENCE):
            await self._news.wait_for(lambda: any(words in line for line in self.log))

    async def _read(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            async with self._news:
                self.log.append(line.decode())
                self._news.notify_all()

    def kill_engine(self) -> None:
        self.engine().kill()

    def engine(self) -> psutil.Process:
        """The process that draws; another one judges pictures."""
        children = psutil.Process(self.process.pid).children()
        return next(child for child in children if "t2i.engine.worker" in child.cmdline())

    def jobs(self) -> list[str]:
        """The state of every job there ever was, oldest first."""
        with sqlite3.connect(f"file:{self.data_dir / 'imagine.db'}?mode=ro", uri=True) as database:
            return [state for (state,) in database.execute("SELECT state FROM jobs ORDER BY id")]


@dataclass(frozen=True)
class Settled:
    """A message that came to rest, and every edit that a person saw on the way."""

    message: Json
    edits: list[Json]

    @property
    def text(self) -> str:
        return text_of(self.message)

    @property
    def pictures(self) -> list[Json]:
        return [item for component in walk(self.message) for item in component.get("items", [])]


class Member:
    """Somebody at the page; everything they see stays in `seen`, in order."""

    def __init__(self, sandbox: Sandbox, username: str) -> None:
        world = sandbox.world
        self.id = str(next(user.id for user in world.users.values() if user.username == username))
        self._channels = {channel.name: str(channel.id) for channel in world.guild.channels.values()}
        self._url = sandbox.url
        self.seen: list[tuple[str, Json]] = []
        self._news = asyncio.Condition()

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(self._url)
        self._socket = await self._http.ws_connect(f"/sandbox/live?user={self.id}")
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)
        await self._http.close()

    async def online(self) -> None:
        """Until the bot is connected and its commands are there."""
        while True:
            known = len(self.seen)
            state = await self.state()
            if state["bot_online"] and state["commands"]:
                return
            await self.until(functools.partial(self._knows_more_than, known))

    def _knows_more_than(self, events: int) -> bool:
        return len(self.seen) > events

    async def types(self, command: str, subcommand: str | None = None, *, at: str = "imagine", **options: Any) -> Json:
        """Send a slash command; the message that answers it. Raises Refused."""
        return await self.answer(await self.begins(command, subcommand, at=at, **options))

    async def begins(self, command: str, subcommand: str | None = None, *, at: str = "imagine", **options: Any) -> str:
        """Send a slash command without waiting; the interaction's id."""
        body = {"command": command, "subcommand": subcommand, "options": options, "channel_id": self._channels[at]}
        return str((await self.act("command", **body))["interaction_id"])

    async def fills(self, opener: str, *values: str) -> Json:
        """Fill the form that an interaction opened, field by field; the message that answers it."""

        def opened() -> Json | None:
            return next((d for op, d in self.seen if op == "modal" and d["interaction_id"] == opener), None)

        modal = await self.until(opened)
        fields = [component["custom_id"] for component in walk(modal) if component["type"] == 4]
        filled = dict(zip(fields, values, strict=True))
        sent = await self.act("modal", interaction_id=opener, custom_id=modal["custom_id"], fields=filled)
        return await self.answer(sent["interaction_id"])

    async def presses(self, message: Json, label: str) -> Json | None:
        """Press a button; the new message that answers it, or None when the press changed what was pressed."""
        return await self._answer(await self.clicks(message, label), updates=True)

    async def clicks(self, message: Json, label: str) -> str:
        """Press a button without waiting; the interaction's id."""
        button = next(c for c in walk(message) if c.get("label") == label)
        answer = await self.act("component", message_id=message["id"], custom_id=button["custom_id"])
        return str(answer["interaction_id"])

    async def settles(self, message: Json) -> Settled:
        """Until the message offers no Cancel any more."""

        def edits() -> list[Json]:
            return [d for op, d in self.seen if op == "message_update" and d["id"] == message["id"]]

        await self.until(lambda: bool(edits()) and "Cancel" not in labels(edits()[-1]))
        return Settled(edits()[-1], edits())

    async def draws(self, **options: Any) -> Settled:
        return await self.settles(await self.types("imagine", **options))

    async def progress_of(self, message: Json) -> Json:
        """Until the message shows a step that was done."""
        return await self.until(
            lambda: next(
                (
                    d
                    for op, d in self.seen
                    if op == "message_update" and d["id"] == message["id"] and "step" in text_of(d)
                ),
                None,
            )
        )

    async def loses(self, message: Json) -> None:
        """Until the message is deleted."""
        await self.until(lambda: any(op == "message_delete" and d["id"] == message["id"] for op, d in self.seen))

    async def state(self) -> Json:
        async with self._http.get("/sandbox/state", params={"user": self.id}) as response:
            return await self._json(response)

    async def act(self, action: str, **body: Any) -> Json:
        async with self._http.post(f"/sandbox/{action}", json={"user": self.id, **body}) as response:
            return await self._json(response)

    async def download(self, picture: Json) -> bytes:
        async with self._http.get(picture["media"]["url"]) as response:
            return await response.read()

    async def until(self, condition: Callable[[], T | None]) -> T:
        async with self._news:
            async with asyncio.timeout(PATIENCE):
                while not (value := condition()):
                    await self._news.wait()
            return value

    async def messages(self, at: str = "imagine") -> list[Json]:
        found: list[Json] = (await self.state())["messages"][self._channels[at]]
        return found

    async def _answer(self, interaction_id: str, *, updates: bool = False) -> Any:
        def answer() -> Json | str | None:
            for op, data in self.seen:
                if op == "interaction_failed" and data["interaction_id"] == interaction_id:
                    raise Refused(data["message"])
                if op == "message_create" and (data.get("interaction_metadata") or {}).get("id") == interaction_id:
                    return data
                if updates and op == "interaction_answered" and data["interaction_id"] == interaction_id:
                    return "update" if data["callback"] in (6, 7) else None
            return None

        found = await self.until(answer)
        return None if found == "update" else found

    async def answer(self, interaction_id: str) -> Json:
        found: Json = await self._answer(interaction_id)
        return found

    async def _read(self) -> None:
        async for message in self._socket:
            event = message.json()
            async with self._news:
                self.seen.append((event["op"], event["d"]))
                self._news.notify_all()

    async def _json(self, response: aiohttp.ClientResponse) -> Json:
        body: Json = await response.json()
        if response.status != 200:
            raise Refused(body["error"])
        return body


@asynccontextmanager
async def people(sandbox: Sandbox, *usernames: str) -> AsyncIterator[list[Member]]:
    members = [Member(sandbox, username) for username in usernames]
    for member in members:
        await member.__aenter__()
    try:
        yield members
    finally:
        for member in members:
            await member.__aexit__()


def walk(node: Json) -> list[Json]:
    """Every component of a message or component, outer ones first."""
    found = []
    inner = [node[name] for name in ("accessory", "component") if name in node]
    for component in [*node.get("components", []), *inner]:
        found += [component, *walk(component)]
    return found


def labels(message: Json) -> list[str]:
    return [component["label"] for component in walk(message) if component["type"] == 2]


def text_of(message: Json) -> str:
    parts = [message["content"], *(component["content"] for component in walk(message) if component["type"] == 10)]
    return "\n".join(filter(None, parts))


def is_private(message: Json) -> bool:
    return bool(message["flags"] & 64)
