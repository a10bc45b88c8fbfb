"""REST v10: the routes a bot's library calls, each a thin step from HTTP to the world."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from bot.sandbox.commands import Commands
from bot.sandbox.errors import DiscordError, FormErrors, Refusal
from bot.sandbox.events import TypingStarted
from bot.sandbox.gateway import Gateway
from bot.sandbox.interactions import Interactions, callback_response
from bot.sandbox.messages import Messages
from bot.sandbox.model import Channel, Json, Member, Message
from bot.sandbox.permissions import Permission
from bot.sandbox.uploads import read_body, read_json
from bot.sandbox.wire import application_flags
from bot.sandbox.world import World

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def json_response(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """Content-Type is exactly `application/json`: some clients compare the whole header, charset and all."""
    return web.Response(body=json.dumps(body).encode(), status=status, headers=headers, content_type="application/json")


class Rest:
    def __init__(
        self,
        world: World,
        tokens: frozenset[str],
        gateway: Gateway,
        *,
        commands: Commands,
        messages: Messages,
        interactions: Interactions,
    ) -> None:
        self._world = world
        self._authorizations = {f"Bot {token}" for token in tokens}
        self._gateway = gateway
        self._commands = commands
        self._messages = messages
        self._interactions = interactions

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/gateway", self.get_gateway),
            web.get("/gateway/bot", self.get_gateway_bot),
            web.get("/applications/@me", self.get_application),
            web.get("/oauth2/applications/@me", self.get_application),
            web.get("/users/@me", self.get_me),
            web.get("/users/@me/guilds", self.get_my_guilds),
            web.post("/users/@me/channels", self.create_direct_channel),
            web.get("/users/{user_id}", self.get_user),
            web.get("/guilds/{guild_id}", self.get_guild),
            web.get("/guilds/{guild_id}/channels", self.get_guild_channels),
            web.get("/guilds/{guild_id}/roles", self.get_guild_roles),
            web.get("/guilds/{guild_id}/members", self.get_guild_members),
            web.get("/guilds/{guild_id}/members/{user_id}", self.get_guild_member),
            web.get("/channels/{channel_id}", self.get_channel),
            web.post("/channels/{channel_id}/typing", self.start_typing),
            web.get("/channels/{channel_id}/messages", self.get_messages),
            web.post("/channels/{channel_id}/messages", self.create_message),
            web.get("/channels/{channel_id}/messages/{message_id}", self.get_message),
            web.patch("/channels/{channel_id}/messages/{message_id}", self.edit_message),
            web.delete("/channels/{channel_id}/messages/{message_id}", self.delete_message),
            *self._command_routes("/applications/{application_id}/commands"),
            *self._command_routes("/applications/{application_id}/guilds/{guild_id}/commands"),
            web.get(
                "/applications/{application_id}/guilds/{guild_id}/commands/{command_id}/permissions",
                self.get_command_permissions,
            ),
            web.post("/interactions/{interaction_id}/{token}/callback", self.answer_interaction),
            web.post("/webhooks/{application_id}/{token}", self.create_followup),
            web.get("/webhooks/{application_id}/{token}/messages/{reference}", self.get_followup),
            web.patch("/webhooks/{application_id}/{token}/messages/{reference}", self.edit_followup),
            web.delete("/webhooks/{application_id}/{token}/messages/{reference}", self.delete_followup),
        ]

    def _command_routes(self, base: str) -> list[web.RouteDef]:
        return [
            web.get(base, self.list_commands),
            web.put(base, self.overwrite_commands),
            web.post(base, self.create_command),
            web.get(base + "/{command_id}", self.get_command),
            web.patch(base + "/{command_id}", self.edit_command),
            web.delete(base + "/{command_id}", self.delete_command),
        ]

    @web.middleware
    async def authenticate(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Interaction callbacks and webhooks carry their token in the address; everything else needs the bot's."""
        resource = request.match_info.route.resource
        path = resource.canonical.removeprefix("/api/v10") if resource is not None else ""
        if not path or path == "/gateway" or path.startswith(("/interactions/", "/webhooks/")):
            return await handler(request)
        if request.headers.get("Authorization") not in self._authorizations:
            raise DiscordError(Refusal.UNAUTHORIZED)
        return await handler(request)

    # --- the bot itself ---------------------------------------------------------------------------------------------

    async def get_gateway(self, request: web.Request) -> web.Response:
        return json_response({"url": self._gateway.url})

    async def get_gateway_bot(self, request: web.Request) -> web.Response:
        limit = {"total": 1000, "remaining": 999, "reset_after": 86_400_000, "max_concurrency": 1}
        return json_response({"url": self._gateway.url, "shards": 1, "session_start_limit": limit})

    async def get_me(self, request: web.Request) -> web.Response:
        private = {"mfa_enabled": False, "locale": "en-US", "verified": True, "email": None, "premium_type": 0}
        return json_response(self._world.bot.json() | private)

    async def get_application(self, request: web.Request) -> web.Response:
        world = self._world
        return json_response(
            {
                "id": str(world.application_id),
                "name": world.bot.display_name,
                "icon": None,
                "description": "Draws pictures from words.",
                "summary": "",
                "type": None,
                "bot": world.bot.json(),
                "bot_public": True,
                "bot_require_code_grant": False,
                "owner": world.users[world.guild.owner_id].json(),
                "team": None,
                "verify_key": "0" * 64,
                "flags": application_flags(self._gateway.privileged_intents),
                "approximate_guild_count": 1,
                "approximate_user_install_count": 0,
                "interactions_endpoint_url": None,
                "role_connections_verification_url": None,
                "redirect_uris": [],
                "tags": [],
                "install_params": {"scopes": ["bot", "applications.commands"], "permissions": "0"},
                "integration_types_config": {"0": {}},
            }
        )

    async def get_my_guilds(self, request: web.Request) -> web.Response:
        guild = self._world.guild
        if self._world.bot.id not in guild.members:
            return json_response([])
        partial = {key: guild.json()[key] for key in ("id", "name", "icon", "banner", "features")}
        return json_response([partial | {"owner": False, "permissions": "0"}])

    # --- guild, users, channels -------------------------------------------------------------------------------------

    async def get_user(self, request: web.Request) -> web.Response:
        user = self._world.users.get(_number(request, "user_id"))
        if user is None:
            raise DiscordError(Refusal.UNKNOWN_USER)
        return json_response(user.json())

    async def get_guild(self, request: web.Request) -> web.Response:
        self._check_guild(request)
        return json_response(self._world.guild.json())

    async def get_guild_channels(self, request: web.Request) -> web.Response:
        self._check_guild(request)
        return json_response([channel.json() for channel in self._world.guild.channels.values()])

    async def get_guild_roles(self, request: web.Request) -> web.Response:
        self._check_guild(request)
        return json_response([role.json() for role in self._world.guild.roles.values()])

    async def get_guild_members(self, request: web.Request) -> web.Response:
        self._check_guild(request)
        after, limit = int(request.query.get("after", 0)), int(request.query.get("limit", 1))
        members = sorted(self._world.guild.members.values(), key=lambda member: member.user.id)
        return json_response([member.json() for member in members if member.user.id > after][:limit])

    async def get_guild_member(self, request: web.Request) -> web.Response:
        self._check_guild(request)
        member: Member | None = self._world.guild.members.get(_number(request, "user_id"))
        if member is None:
            raise DiscordError(Refusal.UNKNOWN_MEMBER)
        return json_response(member.json())

    async def create_direct_channel(self, request: web.Request) -> web.Response:
        body, _ = await read_body(request, 0)
        user = self._world.users.get(int(body.get("recipient_id") or 0))
        if user is None or user.bot:
            raise DiscordError(Refusal.UNKNOWN_USER)
        return json_response(self._world.direct_channel(user).json())

    async def get_channel(self, request: web.Request) -> web.Response:
        return json_response(self._channel(request).json())

    async def start_typing(self, request: web.Request) -> web.Response:
        channel = self._channel(request, Permission.SEND_MESSAGES)
        self._world.emit(TypingStarted(channel, self._world.bot))
        return web.Response(status=204)

    def _check_guild(self, request: web.Request) -> None:
        if _number(request, "guild_id") != self._world.guild.id:
            raise DiscordError(Refusal.UNKNOWN_GUILD)
        if self._world.bot.id not in self._world.guild.members:
            raise DiscordError(Refusal.MISSING_ACCESS)

    def _channel(self, request: web.Request, needed: Permission = Permission.NONE) -> Channel:
        """Raises DiscordError 10003, 50001 when the bot cannot see it, 50013 when it lacks `needed`."""
        channel = self._world.channel(_number(request, "channel_id"))
        granted = self._world.permissions(self._world.bot.id, channel)
        if Permission.VIEW_CHANNEL not in granted:
            raise DiscordError(Refusal.MISSING_ACCESS)
        if needed not in granted:
            raise DiscordError(Refusal.MISSING_PERMISSIONS)
        return channel

    # --- messages ---------------------------------------------------------------------------------------------------

    async def get_messages(self, request: web.Request) -> web.Response:
        """Newest first. Without READ_MESSAGE_HISTORY Discord answers an empty list."""
        channel = self._channel(request)
        if Permission.READ_MESSAGE_HISTORY not in self._world.permissions(self._world.bot.id, channel):
            return json_response([])
        limit = int(request.query.get("limit", 50))
        if not 1 <= limit <= 100:
            errors = FormErrors()
            errors.add("limit", "NUMBER_TYPE_RANGE", "int value should be between 1 and 100.")
            errors.raise_if_any()
        found = [message for message in channel.messages.values() if message.visible_to is None]
        if "after" in request.query:
            found = [message for message in found if message.id > int(request.query["after"])][:limit]
        if "before" in request.query:
            found = [message for message in found if message.id < int(request.query["before"])]
        return json_response([message.json() for message in reversed(found[-limit:])])

    async def get_message(self, request: web.Request) -> web.Response:
        return json_response(self._message(request, Permission.READ_MESSAGE_HISTORY).json())

    async def create_message(self, request: web.Request) -> web.Response:
        channel = self._channel(request, Permission.SEND_MESSAGES)
        body, uploads = await read_body(request, self._world.guild.upload_limit)
        if uploads:
            self._channel(request, Permission.ATTACH_FILES)
        return json_response(self._messages.create(channel, self._world.bot, body, uploads).json())

    async def edit_message(self, request: web.Request) -> web.Response:
        message = self._message(request)
        if message.author is not self._world.bot:
            raise DiscordError(Refusal.CANNOT_EDIT_OTHERS)
        body, uploads = await read_body(request, self._world.guild.upload_limit)
        return json_response(self._messages.edit(message, body, uploads).json())

    async def delete_message(self, request: web.Request) -> web.Response:
        message = self._message(request)
        if message.author is not self._world.bot:
            self._channel(request, Permission.MANAGE_MESSAGES)
        self._messages.delete(message)
        return web.Response(status=204)

    def _message(self, request: web.Request, needed: Permission = Permission.NONE) -> Message:
        channel = self._channel(request, needed)
        return self._world.message(channel.id, _number(request, "message_id"))

    # --- application commands ---------------------------------------------------------------------------------------

    async def list_commands(self, request: web.Request) -> web.Response:
        return json_response(self._commands.listed(self._scope(request)))

    async def overwrite_commands(self, request: web.Request) -> web.Response:
        bodies = await read_json(request)
        return json_response(self._commands.overwrite(self._scope(request), bodies))

    async def create_command(self, request: web.Request) -> web.Response:
        body, _ = await read_body(request, 0)
        command, is_new = self._commands.put(self._scope(request), body)
        return json_response(command, status=201 if is_new else 200)

    async def get_command(self, request: web.Request) -> web.Response:
        return json_response(self._commands.get(self._scope(request), _number(request, "command_id")))

    async def edit_command(self, request: web.Request) -> web.Response:
        body, _ = await read_body(request, 0)
        return json_response(self._commands.patch(self._scope(request), _number(request, "command_id"), body))

    async def delete_command(self, request: web.Request) -> web.Response:
        self._commands.delete(self._scope(request), _number(request, "command_id"))
        return web.Response(status=204)

    async def get_command_permissions(self, request: web.Request) -> web.Response:
        self._scope(request)
        return json_response(self._commands.permissions(_number(request, "command_id")))

    def _scope(self, request: web.Request) -> int | None:
        if _number(request, "application_id") != self._world.application_id:
            raise DiscordError(Refusal.UNKNOWN_APPLICATION)
        return _number(request, "guild_id") if "guild_id" in request.match_info else None

    # --- interactions -----------------------------------------------------------------------------------------------

    async def answer_interaction(self, request: web.Request) -> web.Response:
        body, uploads = await self._body(request)
        interaction = self._interactions.respond(
            _number(request, "interaction_id"), request.match_info["token"], body, uploads
        )
        if request.query.get("with_response") in ("1", "true"):
            return json_response(callback_response(interaction))
        return web.Response(status=204)

    async def create_followup(self, request: web.Request) -> web.Response:
        interaction = self._interactions.by_webhook(_number(request, "application_id"), request.match_info["token"])
        body, uploads = await self._body(request)
        return json_response(self._interactions.follow_up(interaction, body, uploads).json())

    async def get_followup(self, request: web.Request) -> web.Response:
        return json_response(self._followup(request).json())

    async def edit_followup(self, request: web.Request) -> web.Response:
        self._followup(request)
        body, uploads = await self._body(request)
        # The message may have gone while its new files were coming in.
        return json_response(self._messages.edit(self._followup(request), body, uploads).json())

    async def delete_followup(self, request: web.Request) -> web.Response:
        self._messages.delete(self._followup(request))
        return web.Response(status=204)

    def _followup(self, request: web.Request) -> Message:
        interaction = self._interactions.by_webhook(_number(request, "application_id"), request.match_info["token"])
        return self._interactions.message(interaction, request.match_info["reference"])

    async def _body(self, request: web.Request) -> tuple[Json, list[Any]]:
        return await read_body(request, self._world.guild.upload_limit)


def _number(request: web.Request, name: str) -> int:
    """A snowflake of the address. Raises DiscordError 50035 for anything else."""
    text = request.match_info[name]
    if not text.isdecimal():
        errors = FormErrors()
        errors.add(name, "NUMBER_TYPE_COERCE", f'Value "{text}" is not snowflake.')
        errors.raise_if_any()
    return int(text)
