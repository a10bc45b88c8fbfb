"""The sandbox as one server: REST, gateway, content network and page behind one loopback address."""

from __future__ import annotations

import base64
import ipaddress
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from aiohttp import WSCloseCode, web

from bot.sandbox import world
from bot.sandbox.commands import Commands
from bot.sandbox.errors import DiscordError, Refusal, SandboxRefusal
from bot.sandbox.faults import Faults
from bot.sandbox.gateway import Gateway
from bot.sandbox.interactions import Interactions
from bot.sandbox.live import Live
from bot.sandbox.messages import Messages
from bot.sandbox.ratelimits import RateLimits
from bot.sandbox.rest import Handler, Rest, json_response
from bot.sandbox.uploads import ContentNetwork
from bot.sandbox.wire import Intent

PAGE = Path(__file__).parent / "page"
API = "/api/v10"


class Sandbox:
    """A local Discord. `async with Sandbox() as sandbox:` or start() and close()."""

    def __init__(
        self,
        *,
        token: str = "sandbox",  # noqa: S107 - it guards nothing: only this machine is served
        privileged_intents: Intent = Intent.NONE,
        rate_limits: bool = True,
        ack_seconds: float = 3.0,
        token_seconds: float = 15 * 60.0,
        heartbeat_seconds: float = 41.25,
        kept_messages: int = 500,
    ) -> None:
        """`token` is what the bot must log in with; the seconds are Discord's own and shorter only in tests."""
        self.token = token
        self.url = ""
        self.world = world.seed()
        tokens = frozenset({token, f"{_encoded(self.world.bot.id)}.{token}"})
        self.cdn = ContentNetwork(self.world)
        self.gateway = Gateway(
            self.world, tokens, privileged_intents=privileged_intents, heartbeat_seconds=heartbeat_seconds
        )
        self.commands = Commands(self.world)
        self.messages = Messages(self.world, self.cdn, kept=kept_messages)
        self.interactions = Interactions(
            self.world,
            self.gateway,
            self.commands,
            self.messages,
            ack_seconds=ack_seconds,
            token_seconds=token_seconds,
        )
        self.faults = Faults(self.world, self.gateway, self.messages)
        self._rate_limits = RateLimits(enforce=rate_limits)
        self._rest = Rest(
            self.world,
            tokens,
            self.gateway,
            commands=self.commands,
            messages=self.messages,
            interactions=self.interactions,
        )
        self._live = Live(self.world, self.gateway, self.commands, self.messages, self.interactions)
        self._runner: web.AppRunner | None = None

    @property
    def api_base(self) -> str:
        return self.url + API

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen; port 0 takes a free one. Raises ValueError for a host that others could reach, OSError when taken."""
        if not _is_loopback(host):
            raise ValueError(f"The sandbox only listens on this machine, not on {host}.")
        self._runner = web.AppRunner(self._application(), access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port)
        await site.start()
        bound = self._runner.addresses[0][1]
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{bound}"
        self.cdn.base_url = self.url
        self.gateway.url = f"{self.url.replace('http', 'ws', 1)}/gateway"

    async def close(self) -> None:
        """Drop every connection and free the port."""
        if self._runner is not None:
            self._live.close()
            for connection in self.gateway.connections():
                connection.close(WSCloseCode.GOING_AWAY)
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    def _application(self) -> web.Application:
        api = web.Application(
            middlewares=[
                _discord_errors,
                self.faults.middleware,
                self._rate_limits.middleware,
                self._rest.authenticate,
            ]
        )
        api.add_routes(self._rest.routes())

        app = web.Application(middlewares=[_only_this_machine, _page_errors])
        app.add_subapp(API, api)
        app.add_routes(self._live.routes())
        app.add_routes(self.faults.routes())
        app.add_routes(
            [
                web.get("/gateway", self.gateway.handle),
                web.get("/gateway/", self.gateway.handle),
                web.get(r"/cdn/attachments/{channel_id:\d+}/{attachment_id:\d+}/{filename}", self.cdn.serve_attachment),
                web.get(r"/cdn/embed/avatars/{index:\d+}.png", self.cdn.serve_default_avatar),
                web.get("/", _index),
                web.static("/page", PAGE),
            ]
        )
        app.on_response_prepare.append(_never_stale)
        return app


async def _index(request: web.Request) -> web.FileResponse:
    return web.FileResponse(PAGE / "index.html")


async def _never_stale(request: web.Request, response: web.StreamResponse) -> None:
    """After an upgrade the browser must not mix old modules with new ones."""
    if request.path == "/" or request.path.startswith("/page/"):
        response.headers["Cache-Control"] = "no-cache"


@web.middleware
async def _only_this_machine(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Other websites open in the same browser can reach loopback too: their Origin, or a rebound name, is refused."""
    origin = request.headers.get("Origin")
    if not _is_loopback(urlsplit(f"//{request.host}").hostname):
        raise web.HTTPForbidden(text="The sandbox answers only to this machine.")
    if origin is not None and urlsplit(origin).netloc != request.host:
        raise web.HTTPForbidden(text="The sandbox answers only to its own page.")
    return await handler(request)


@web.middleware
async def _page_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except SandboxRefusal as refusal:
        return json_response({"error": str(refusal)}, status=refusal.status)
    except DiscordError as error:
        return json_response({"error": error.message}, status=error.status)


@web.middleware
async def _discord_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except DiscordError as error:
        return json_response(error.body(), status=error.status)
    except web.HTTPNotFound:
        return json_response(DiscordError(Refusal.NOT_FOUND).body(), status=404)
    except web.HTTPMethodNotAllowed:
        return json_response(DiscordError(Refusal.METHOD_NOT_ALLOWED).body(), status=405)


def _encoded(bot_id: int) -> str:
    """The bot's id as Discord's own tokens begin with it; some clients read it from there."""
    return base64.b64encode(str(bot_id).encode()).decode().rstrip("=")


def _is_loopback(host: str | None) -> bool:
    if host == "localhost":
        return True
    try:
        return host is not None and ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
