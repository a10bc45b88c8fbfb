"""What one person sees: the state when they came, kept current by the live socket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import aiohttp

from bot.sandbox.components import walk
from bot.sandbox.errors import SandboxRefusal
from bot.sandbox.interactions import Callback
from bot.sandbox.model import Json
from bot.sandbox.reading import controls, fields, media, settled, text

CONNECT_SECONDS = 60.0

_T = TypeVar("_T")


def _shows(message: Json, words: str) -> bool:
    return words in text(message) or any(control["label"] == words for control in controls(message))


def now() -> float:
    """Event loop time, in seconds."""
    return asyncio.get_running_loop().time()


class View:
    def __init__(self, socket: aiohttp.ClientWebSocketResponse, state: Json, username: str, user_id: str) -> None:
        self.username = username
        self.user_id = user_id
        self.commands: list[Json] = state["commands"]
        self.modal: Json | None = None
        self.modal_of: Json | None = None
        """The message whose button opened the form."""
        self.edits: dict[str, int] = {}
        self.first_preview: dict[str, float] = {}
        self._online = bool(state["bot_online"])
        self._channels = {channel["name"]: channel["id"] for channel in state["channels"]}
        self._bots = {user["display_name"] for user in state["users"] if user["bot"]}
        self._messages: dict[str, Json] = {m["id"]: m for channel in state["messages"].values() for m in channel}
        self._changed_at: dict[str, float] = {}
        self._deleted: set[str] = set()
        self._answers: dict[str, Json] = {}
        self._failures: dict[str, str] = {}
        self._modals: dict[str, Json] = {}
        self._socket = socket
        self._lost = False
        self._news = asyncio.Condition()
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def open(cls, http: aiohttp.ClientSession, username: str) -> View:
        """Raises SandboxRefusal when there is nobody of that name."""
        async with http.get("/sandbox/state") as response:
            users: list[Json] = (await response.json())["users"]
        wanted = username.casefold()
        people = (user for user in users if not user["bot"])
        user = next((u for u in people if wanted in (u["username"], u["display_name"].casefold())), None)
        if user is None:
            raise SandboxRefusal(f"nobody is called {username}.")
        # The socket first: what happens before the state is read is then in both, not in neither.
        socket = await http.ws_connect("/sandbox/live", params={"user": user["id"]})
        async with http.get("/sandbox/state", params={"user": user["id"]}) as response:
            return cls(socket, await response.json(), user["username"], user["id"])

    async def close(self) -> None:
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)
        await self._socket.close()

    def channel_id(self, name: str) -> str:
        if name not in self._channels:
            raise SandboxRefusal(f"{self.username} sees no channel #{name}.")
        return str(self._channels[name])

    def may_enter(self, name: str) -> None:
        """Direct messages with a bot may begin later. Raises SandboxRefusal for what is no channel."""
        if name not in self._bots:
            self.channel_id(name)

    def newest(self, wanted: Callable[[Json], bool], otherwise: str, channel_id: str) -> tuple[Json, Json]:
        """The newest message of a channel with such a component, and the component."""
        for message in sorted(self._messages.values(), key=lambda message: int(message["id"]), reverse=True):
            if message["channel_id"] == channel_id:
                for component in walk(message["components"]):
                    if wanted(component):
                        return message, component
        raise SandboxRefusal(otherwise)

    async def says(self, words: str, channel: str) -> Json:
        """Until the channel of that name has a message with these words, or such a button; the newest of them."""

        def found() -> Json | None:
            channel_id = self._channels.get(channel)
            there = (m for m in self._messages.values() if m["channel_id"] == channel_id and _shows(m, words))
            return max(there, key=lambda message: int(message["id"]), default=None)

        return await self._until(found)

    async def commands_known(self) -> None:
        """Until the bot is there and has registered its commands."""
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await self._until(lambda: self._online and bool(self.commands))
        except TimeoutError:
            raise SandboxRefusal("the bot did not come online.") from None

    async def bot_gone(self) -> None:
        """Until the bot is not connected."""
        await self._until(lambda: not self._online)

    async def outcome(self, interaction_id: str, source: Json | None, began: float) -> Json:
        """What an interaction came to: {"message": settled}, {"modal": ...} or {"deleted": id}."""
        message_id = await self._until(lambda: self._led_to(interaction_id, source, began))
        if interaction_id in self._modals:
            self.modal, self.modal_of = self._modals[interaction_id], source
            return {"modal": {"title": self.modal["title"], "fields": list(fields(self.modal))}}
        await self._until(lambda: message_id in self._deleted or settled(self._messages[message_id]))
        if message_id in self._deleted:
            return {"deleted": message_id}
        return {"message": self._messages[message_id]}

    def _led_to(self, interaction_id: str, source: Json | None, began: float) -> str | None:
        """The message that answers the interaction, once there is one. Raises SandboxRefusal when it failed."""
        if interaction_id in self._failures:
            raise SandboxRefusal(f"{self._failures[interaction_id]}.")
        if interaction_id in self._modals:
            return interaction_id
        for message in self._messages.values():
            if (message.get("interaction_metadata") or {}).get("id") == interaction_id:
                return str(message["id"])
        answer = self._answers.get(interaction_id)
        if answer is None:
            return None
        if answer["callback"] == Callback.UPDATE_MESSAGE:
            return str(answer["message_id"])
        if source is not None and answer["callback"] == Callback.DEFERRED_UPDATE:
            # Nothing new came yet; what was pressed may itself be the answer.
            touched = self._changed_at.get(source["id"], 0.0) >= began
            return str(source["id"]) if touched or source["id"] in self._deleted else None
        return None

    async def _until(self, condition: Callable[[], _T | None]) -> _T:
        async with self._news:
            while not (value := condition()):
                if self._lost:
                    raise SandboxRefusal("the sandbox closed the connection.")
                await self._news.wait()
            return value

    async def _read(self) -> None:
        async for message in self._socket:
            event = message.json()
            async with self._news:
                self._take(event["op"], event["d"])
                self._news.notify_all()
        async with self._news:
            self._lost = True
            self._news.notify_all()

    def _take(self, op: str, data: Any) -> None:
        match op:
            case "message_create":
                self._messages[data["id"]] = data
            case "message_update":
                message_id = data["id"]
                self._messages[message_id] = data
                self._changed_at[message_id] = now()
                self.edits[message_id] = self.edits.get(message_id, 0) + 1
                if not settled(data) and media(data):
                    self.first_preview.setdefault(message_id, now())
            case "message_delete":
                self._messages.pop(data["id"], None)
                self._deleted.add(data["id"])
            case "interaction_answered":
                self._answers[data["interaction_id"]] = data
            case "interaction_failed":
                self._failures[data["interaction_id"]] = data["message"]
            case "modal":
                self._modals[data["interaction_id"]] = data
            case "commands":
                self.commands = data
            case "channels":
                self._channels = {channel["name"]: channel["id"] for channel in data}
            case "presence" | "hello":
                self._online = data["bot_online"]
