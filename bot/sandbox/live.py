"""What the page talks to: the state at a glance, a socket with everything that happens, and a person's actions."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from aiohttp import WSCloseCode, WSMsgType, web

from bot.sandbox.commands import Commands, CommandType
from bot.sandbox.errors import SandboxRefusal
from bot.sandbox.events import (
    BotRemoved,
    ChannelCreated,
    ChannelDeleted,
    ChannelUpdated,
    CommandsChanged,
    Event,
    InteractionAcknowledged,
    InteractionFailed,
    MessageCreated,
    MessageDeleted,
    MessageUpdated,
    ModalOpened,
    PresenceChanged,
    TypingStarted,
)
from bot.sandbox.gateway import Gateway
from bot.sandbox.interactions import Call, Interactions
from bot.sandbox.messages import Messages
from bot.sandbox.model import Channel, Json, Message, User
from bot.sandbox.permissions import Permission, in_guild
from bot.sandbox.rest import json_response
from bot.sandbox.uploads import read_body
from bot.sandbox.world import World

SHOWN_PER_CHANNEL = 100


@dataclass(frozen=True, slots=True, eq=False)
class _Viewer:
    """One page or script, acting as one user."""

    user: User
    outgoing: asyncio.Queue[Json | None]
    """What it still has to hear; None ends the socket."""


class Live:
    def __init__(
        self, world: World, gateway: Gateway, commands: Commands, messages: Messages, interactions: Interactions
    ) -> None:
        self._world = world
        self._gateway = gateway
        self._commands = commands
        self._messages = messages
        self._interactions = interactions
        self._viewers: set[_Viewer] = set()
        world.listen(self._hear)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/sandbox/state", self.state),
            web.get("/sandbox/live", self.live),
            web.post("/sandbox/command", self.command),
            web.post("/sandbox/autocomplete", self.autocomplete),
            web.post("/sandbox/component", self.component),
            web.post("/sandbox/menu", self.menu),
            web.post("/sandbox/modal", self.modal),
            web.post("/sandbox/message", self.message),
            web.post("/sandbox/dismiss", self.dismiss),
        ]

    # --- looking ----------------------------------------------------------------------------------------------------

    async def state(self, request: web.Request) -> web.Response:
        user = self._user(request.query.get("user"))
        world = self._world
        channels = self._visible_channels(user)
        member = world.guild.members[user.id]
        return json_response(
            {
                "user": str(user.id),
                "users": [self._user_json(other) for other in world.users.values()],
                "guild": {"id": str(world.guild.id), "name": world.guild.name},
                "channels": [self._channel_json(user, channel) for channel in channels],
                "commands": self._usable_commands(user),
                "messages": {str(channel.id): _shown(channel, user) for channel in channels},
                "permissions": str(int(in_guild(world.guild, member))),
                "bot_online": self._gateway.online,
            }
        )

    async def live(self, request: web.Request) -> web.WebSocketResponse:
        viewer = _Viewer(self._user(request.query.get("user")), asyncio.Queue())
        ws = web.WebSocketResponse(heartbeat=30)
        await ws.prepare(request)
        viewer.outgoing.put_nowait({"op": "hello", "d": {"bot_online": self._gateway.online}})
        self._viewers.add(viewer)
        writer = asyncio.create_task(_pump(ws, viewer.outgoing))
        try:
            async for message in ws:
                if message.type is WSMsgType.ERROR:
                    break
        finally:
            self._viewers.discard(viewer)
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
        return ws

    def close(self) -> None:
        """End every page's socket."""
        for viewer in self._viewers:
            viewer.outgoing.put_nowait(None)

    def _user_json(self, user: User) -> Json:
        guild = self._world.guild
        member = guild.members.get(user.id)
        worn = [guild.roles[role_id] for role_id in member.role_ids] if member else []
        roles = sorted(worn, key=lambda role: role.position, reverse=True)
        return {
            "id": str(user.id),
            "username": user.username,
            "display_name": user.display_name,
            "avatar_color": user.colour,
            "roles": [{"id": str(role.id), "name": role.name, "color": role.colour} for role in roles],
            "owner": user.id == guild.owner_id,
            "bot": user.bot,
        }

    def _channel_json(self, user: User, channel: Channel) -> Json:
        direct = channel.recipient is not None
        return {
            "id": str(channel.id),
            "type": 1 if direct else 0,
            "name": self._world.bot.display_name if direct else channel.name,
            "nsfw": channel.nsfw,
            "topic": channel.topic,
            "permissions": str(int(self._world.permissions(user.id, channel))),
            "commands": self._names(user, channel, CommandType.SLASH),
            "message_commands": self._names(user, channel, CommandType.MESSAGE),
        }

    def _names(self, user: User, channel: Channel, kind: CommandType) -> list[str]:
        return [command["name"] for command in self._commands.usable(user.id, channel, kind)]

    def _visible_channels(self, user: User) -> list[Channel]:
        return [channel for channel in self._world.channels().values() if self._sees(user, channel)]

    def _usable_commands(self, user: User) -> list[Json]:
        """What the user may use in at least one channel."""
        channels = self._visible_channels(user)
        usable = (command for channel in channels for command in self._commands.usable(user.id, channel))
        return list({command["id"]: command for command in usable}.values())

    # --- acting -----------------------------------------------------------------------------------------------------

    async def command(self, request: web.Request) -> web.Response:
        body, _ = await read_body(request, 0)
        interaction = self._interactions.command(self._call(body))
        return json_response({"interaction_id": str(interaction.id)})

    async def autocomplete(self, request: web.Request) -> web.Response:
        body, _ = await read_body(request, 0)
        choices = await self._interactions.autocomplete(self._call(body), str(body.get("focused")))
        return json_response({"choices": [{"name": choice["name"], "value": choice["value"]} for choice in choices]})

    async def component(self, request: web.Request) -> web.Response:
        body, _ = await read_body(request, 0)
        user = self._user(body.get("user"))
        message = self._visible_message(user, body.get("message_id"))
        values = [str(value) for value in body.get("values") or []]
        interaction = self._interactions.component(user, message, str(body.get("custom_id")), values)
        return json_response({"interaction_id": str(interaction.id)})

    async def menu(self, request: web.Request) -> web.Response:
        """A command of the bot from the menu of a message."""
        body, _ = await read_body(request, 0)
        user = self._user(body.get("user"))
        message = self._visible_message(user, body.get("message_id"))
        interaction = self._interactions.message_command(user, message, str(body.get("command")))
        return json_response({"interaction_id": str(interaction.id)})

    async def modal(self, request: web.Request) -> web.Response:
        body, _ = await read_body(request, 0)
        interaction = self._interactions.submit(
            self._user(body.get("user")),
            _number(body.get("interaction_id")),
            str(body.get("custom_id")),
            body.get("fields") or {},
        )
        return json_response({"interaction_id": str(interaction.id)})

    async def message(self, request: web.Request) -> web.Response:
        body, _ = await read_body(request, 0)
        user, channel = self._place(body)
        if Permission.SEND_MESSAGES not in self._world.permissions(user.id, channel):
            raise SandboxRefusal("You may not write in this channel.", 403)
        content = str(body.get("content") or "").strip()
        if not 1 <= len(content) <= 2000:
            raise SandboxRefusal("A message has from 1 to 2000 characters.")
        message = self._messages.create(channel, user, {"content": content}, [])
        return json_response({"message_id": str(message.id)})

    async def dismiss(self, request: web.Request) -> web.Response:
        """Ephemeral messages are dismissed by whoever sees them."""
        body, _ = await read_body(request, 0)
        user = self._user(body.get("user"))
        message = self._visible_message(user, body.get("message_id"))
        if message.visible_to is None:
            raise SandboxRefusal("Only messages that you alone see can be dismissed.", 403)
        self._messages.delete(message)
        return json_response({})

    def _call(self, body: Json) -> Call:
        user, channel = self._place(body)
        return Call(user, channel, str(body.get("command")), body.get("subcommand"), body.get("options") or {})

    def _place(self, body: Json) -> tuple[User, Channel]:
        user = self._user(body.get("user"))
        channel = self._world.channels().get(_number(body.get("channel_id")))
        if channel is None or not self._sees(user, channel):
            raise SandboxRefusal("There is no such channel.", 404)
        return user, channel

    def _user(self, user_id: Any) -> User:
        """By default the first member, so that a page can open without knowing anybody."""
        members = self._world.guild.members
        if user_id is None:
            return next(member.user for member in members.values() if not member.user.bot)
        member = members.get(_number(user_id))
        if member is None or member.user.bot:
            raise SandboxRefusal("There is no such user.", 404)
        return member.user

    def _visible_message(self, user: User, message_id: Any) -> Message:
        message = self._world.find_message(_number(message_id))
        if message is None or not message.visible(user.id) or not self._sees(user, message.channel):
            raise SandboxRefusal("That message is gone.", 404)
        return message

    def _sees(self, user: User, channel: Channel) -> bool:
        return Permission.VIEW_CHANNEL in self._world.permissions(user.id, channel)

    # --- telling ----------------------------------------------------------------------------------------------------

    def _hear(self, event: Event) -> None:
        for viewer in self._viewers:
            if self._concerns(event, viewer.user) and (told := self._told(event, viewer.user)):
                viewer.outgoing.put_nowait({"op": told[0], "d": told[1]})

    def _concerns(self, event: Event, user: User) -> bool:
        match event:
            case MessageCreated(message) | MessageUpdated(message) | MessageDeleted(message):
                return message.visible(user.id) and self._sees(user, message.channel)
            case TypingStarted(channel, _):
                return self._sees(user, channel)
            case InteractionAcknowledged() | InteractionFailed() | ModalOpened():
                return event.user_id == user.id
        return True

    def _told(self, event: Event, user: User) -> tuple[str, Any] | None:
        """An event as the page hears it: its op and its data."""
        told: tuple[str, Any] | None = None
        match event:
            case MessageCreated(message):
                told = "message_create", message.json()
            case MessageUpdated(message):
                told = "message_update", message.json()
            case MessageDeleted(message):
                told = "message_delete", {"id": str(message.id), "channel_id": str(message.channel.id)}
            case TypingStarted(channel, typist):
                told = "typing", {"channel_id": str(channel.id), "user_id": str(typist.id)}
            case CommandsChanged() | BotRemoved():
                told = "commands", self._usable_commands(user)
            case ChannelCreated() | ChannelUpdated() | ChannelDeleted():
                told = "channels", [self._channel_json(user, channel) for channel in self._visible_channels(user)]
            case PresenceChanged(online):
                told = "presence", {"bot_online": online}
            case InteractionFailed():
                told = "interaction_failed", {"interaction_id": str(event.interaction_id), "message": event.sentence}
            case InteractionAcknowledged():
                told = "interaction_answered", _answered(event)
            case ModalOpened():
                told = "modal", {"interaction_id": str(event.interaction_id), **event.modal}
        return told


def _answered(event: InteractionAcknowledged) -> Json:
    return {
        "interaction_id": str(event.interaction_id),
        "callback": event.callback,
        "message_id": str(event.message.id) if event.message else None,
    }


async def _pump(ws: web.WebSocketResponse, outgoing: asyncio.Queue[Json | None]) -> None:
    while (told := await outgoing.get()) is not None:
        await ws.send_json(told)
    await ws.close(code=WSCloseCode.GOING_AWAY)


def _shown(channel: Channel, user: User) -> list[Json]:
    messages = [message for message in channel.messages.values() if message.visible(user.id)]
    return [message.json() for message in messages[-SHOWN_PER_CHANNEL:]]


def _number(value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        raise SandboxRefusal(f"{value} is not an id.") from None
