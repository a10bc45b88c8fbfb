"""Trouble on request: failing routes, dropped connections, gateway closes, and a world that changes under the bot.

`POST /sandbox/faults` takes one fault as JSON:

    {"route": "PATCH /webhooks/*", "status": 503, "times": 2}         also "code", "message", "retry_after" (for 429)
    {"route": "POST /channels/*/messages", "drop": "before"}          cut the connection before or after the effect
    {"route": "PATCH *", "delay": 0.5}                                seconds before the route is served
    {"gateway": "reconnect" | "invalid_session" | "drop"}             op 7; op 9 ("resumable": true); a cut connection
    {"gateway": "close", "code": 4000}
    {"world": "delete_channel" | "delete_message" | "remove_bot"}     with "channel_id", "message_id"
    {"world": "deny", "channel_id": ..., "permissions": "2048"}       an overwrite against the bot; "0" lifts it

`GET` lists what is still armed, `DELETE` disarms it all.
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase

from aiohttp import web

from bot.sandbox.errors import SandboxRefusal
from bot.sandbox.events import ChannelUpdated
from bot.sandbox.gateway import Gateway
from bot.sandbox.messages import Messages
from bot.sandbox.model import Json, Overwrite
from bot.sandbox.permissions import Permission
from bot.sandbox.ratelimits import too_many_requests
from bot.sandbox.rest import Handler, json_response
from bot.sandbox.uploads import read_body
from bot.sandbox.wire import CloseCode, Opcode
from bot.sandbox.world import World


@dataclass(slots=True)
class RouteFault:
    """What happens to the next `times` requests whose "METHOD /path" (below /api/v10) matches `route`."""

    route: str
    times: int = 1
    status: int | None = None
    code: int = 0
    message: str = ""
    retry_after: float = 0.1
    drop: str | None = None
    delay: float = 0.0


class Faults:
    def __init__(self, world: World, gateway: Gateway, messages: Messages) -> None:
        self._world = world
        self._gateway = gateway
        self._messages = messages
        self._armed: list[RouteFault] = []

    def inject(self, fault: Json) -> None:
        """Raises SandboxRefusal for a fault that does not exist."""
        match fault:
            case {"route": str()}:
                try:
                    self._armed.append(RouteFault(**fault))
                except TypeError as error:
                    raise SandboxRefusal(f"That fault has a field nobody knows: {error}.") from None
            case {"gateway": str(action)}:
                self._disturb_gateway(action, fault)
            case {"world": str(action)}:
                self._change_world(action, fault)
            case _:
                raise SandboxRefusal("A fault names a route, the gateway or the world.")

    def clear(self) -> None:
        self._armed.clear()

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        fault = self._due(f"{request.method} {request.path.removeprefix('/api/v10')}")
        if fault is None:
            return await handler(request)
        if fault.delay:
            await asyncio.sleep(fault.delay)
        if fault.drop == "before":
            return _cut(request)
        if fault.status is not None:
            await request.read()
            if fault.status == 429:
                return too_many_requests(fault.retry_after)
            return json_response({"message": fault.message, "code": fault.code}, status=fault.status)
        response = await handler(request)
        return _cut(request) if fault.drop == "after" else response

    def _due(self, route: str) -> RouteFault | None:
        for fault in self._armed:
            if fnmatchcase(route, fault.route):
                fault.times -= 1
                if fault.times <= 0:
                    self._armed.remove(fault)
                return fault
        return None

    def _disturb_gateway(self, action: str, fault: Json) -> None:
        connections = self._gateway.connections()
        match action:
            case "drop":
                for connection in connections:
                    connection.drop()
            case "close":
                for connection in connections:
                    connection.close(int(fault.get("code", CloseCode.UNKNOWN_ERROR)))
            case "reconnect":
                for connection in connections:
                    connection.control(Opcode.RECONNECT)
            case "invalid_session":
                resumable = bool(fault.get("resumable"))
                if not resumable:
                    self._gateway.forget_sessions()
                for connection in connections:
                    connection.control(Opcode.INVALID_SESSION, resumable)
            case _:
                raise SandboxRefusal(f"The gateway has no trouble named {action}.")

    def _change_world(self, action: str, fault: Json) -> None:
        match action:
            case "remove_bot":
                self._world.remove_bot()
            case "delete_channel":
                self._world.delete_channel(self._world.channel(int(fault["channel_id"])))
            case "delete_message":
                channel_id, message_id = int(fault["channel_id"]), int(fault["message_id"])
                self._messages.delete(self._world.message(channel_id, message_id))
            case "deny":
                channel = self._world.channel(int(fault["channel_id"]))
                bot_id = self._world.bot.id
                deny = Permission(int(fault["permissions"]))
                channel.overwrites[bot_id] = Overwrite(bot_id, is_role=False, deny=deny)
                self._world.emit(ChannelUpdated(channel))
            case _:
                raise SandboxRefusal(f"The world has no change named {action}.")

    # --- control routes ---------------------------------------------------------------------------------------------

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/sandbox/faults", self._list),
            web.post("/sandbox/faults", self._add),
            web.delete("/sandbox/faults", self._clear),
        ]

    async def _list(self, request: web.Request) -> web.Response:
        return json_response({"armed": [asdict(fault) for fault in self._armed]})

    async def _add(self, request: web.Request) -> web.Response:
        body, _ = await read_body(request, 0)
        self.inject(body)
        return json_response({"armed": len(self._armed)})

    async def _clear(self, request: web.Request) -> web.Response:
        self.clear()
        return json_response({"armed": 0})


def _cut(request: web.Request) -> web.Response:
    """Abort the TCP connection; the response returned here never leaves."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)
