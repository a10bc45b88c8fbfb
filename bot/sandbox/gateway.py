"""Gateway v10: HELLO, IDENTIFY, READY, GUILD_CREATE, heartbeats, RESUME, and which session hears of what."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from aiohttp import WSMsgType, web

from bot.sandbox.events import (
    BotRemoved,
    ChannelDeleted,
    ChannelUpdated,
    Event,
    MessageCreated,
    MessageDeleted,
    MessageUpdated,
    PresenceChanged,
    TypingStarted,
)
from bot.sandbox.model import Json, Message
from bot.sandbox.permissions import Permission
from bot.sandbox.wire import (
    ANY_INTENT,
    PRIVILEGED,
    CloseCode,
    Closed,
    Connection,
    Intent,
    Opcode,
    Session,
    application_flags,
    decode,
    transport,
)
from bot.sandbox.world import World

VERSION = 10
SESSIONS_KEPT = 16
ROUND_TRIP = 0.02
"""Seconds until a heartbeat is acknowledged, as over a network: what comes back before discord.py's thread has noted
that it sent a beat counts as an answer to the beat before, and makes it warn that it is 41 s behind."""


class Gateway:
    """All sessions of the bot, and which of them hears what."""

    def __init__(
        self,
        world: World,
        tokens: frozenset[str],
        *,
        privileged_intents: Intent = Intent.NONE,
        heartbeat_seconds: float = 41.25,
    ) -> None:
        self.world = world
        self.url = ""
        self._tokens = tokens
        self.privileged_intents = privileged_intents
        self._heartbeat_seconds = heartbeat_seconds
        self._sessions: dict[str, Session] = {}
        world.listen(self._hear)

    @property
    def online(self) -> bool:
        return any(session.connection for session in self._sessions.values())

    @property
    def reachable(self) -> bool:
        """Whether some session is connected or may still be resumed."""
        return bool(self._sessions)

    def connections(self) -> list[Connection]:
        return [session.connection for session in self._sessions.values() if session.connection]

    def interaction(self, payload: Json) -> None:
        """INTERACTION_CREATE needs no intent; with several shards only the first hears it, as the guild is there."""
        for session in self._sessions.values():
            if session.shard[0] == 0:
                session.dispatch("INTERACTION_CREATE", payload)

    def forget_sessions(self) -> None:
        """Make every later RESUME invalid."""
        for session in self._sessions.values():
            session.connection = None
        self._sessions.clear()

    # --- one connection ---------------------------------------------------------------------------------------------

    async def handle(self, request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(max_msg_size=64 * 1024, compress=False)
        await ws.prepare(request)
        try:
            encode = transport(request.query.get("compress"))
        except ValueError:
            await ws.close(code=CloseCode.DECODE_ERROR, message=b"Unknown compression.")
            return ws
        connection = Connection(ws, request.transport, encode)
        writer = asyncio.create_task(connection.write())
        try:
            if request.query.get("v", str(VERSION)) != str(VERSION):
                raise Closed(CloseCode.INVALID_API_VERSION, "Invalid API version.")
            if request.query.get("encoding", "json") != "json":
                raise Closed(CloseCode.DECODE_ERROR, "Only JSON encoding is served.")
            interval = int(self._heartbeat_seconds * 1000)
            connection.control(Opcode.HELLO, {"heartbeat_interval": interval})
            await self._read(connection)
        except Closed as closed:
            connection.close(closed.code, closed.reason)
            await asyncio.wait({writer}, timeout=5)
        except ConnectionError:
            pass
        finally:
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
            self._detach(connection, ws.close_code)
        return ws

    async def _read(self, connection: Connection) -> None:
        session: Session | None = None
        while True:
            try:
                message = await connection.ws.receive(timeout=self._heartbeat_seconds * 1.5)
            except TimeoutError:
                raise Closed(CloseCode.SESSION_TIMED_OUT, "No heartbeat came.") from None
            if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                return
            opcode, data = decode(message.data)
            match opcode:
                case Opcode.HEARTBEAT:
                    asyncio.get_running_loop().call_later(ROUND_TRIP, connection.control, Opcode.HEARTBEAT_ACK)
                case Opcode.IDENTIFY | Opcode.RESUME if session is not None:
                    raise Closed(CloseCode.ALREADY_AUTHENTICATED, "Already authenticated.")
                case Opcode.IDENTIFY:
                    session = self._identify(connection, data)
                case Opcode.RESUME:
                    session = self._resume(connection, data)
                case _ if session is None:
                    raise Closed(CloseCode.NOT_AUTHENTICATED, "Not authenticated.")
                case Opcode.REQUEST_GUILD_MEMBERS:
                    self._send_members(session, data)
                case Opcode.PRESENCE_UPDATE | Opcode.VOICE_STATE_UPDATE | Opcode.REQUEST_SOUNDBOARD_SOUNDS:
                    pass
                case _:
                    raise Closed(CloseCode.UNKNOWN_OPCODE, "Unknown opcode.")

    def _identify(self, connection: Connection, data: Any) -> Session:
        if not self._authentic(data):
            raise Closed(CloseCode.AUTHENTICATION_FAILED, "Authentication failed.")
        intents = data.get("intents")
        if not isinstance(intents, int) or not 0 <= intents <= ANY_INTENT:
            raise Closed(CloseCode.INVALID_INTENTS, "Invalid intent(s).")
        if intents & PRIVILEGED & ~self.privileged_intents:
            raise Closed(CloseCode.DISALLOWED_INTENTS, "Disallowed intent(s).")
        shard = data.get("shard") or [0, 1]
        if len(shard) != 2 or not 0 <= shard[0] < shard[1]:
            raise Closed(CloseCode.INVALID_SHARD, "Invalid shard.")

        was_online = self.online
        session = Session(Intent(intents), shard)
        session.connection = connection
        self._sessions[session.id] = session
        self._drop_oldest_session()

        member = self.world.bot.id in self.world.guild.members
        has_guild = shard[0] == 0 and member and Intent.GUILDS in session.intents
        application = {"id": str(self.world.application_id), "flags": application_flags(self.privileged_intents)}
        session.dispatch(
            "READY",
            {
                "v": VERSION,
                "user": self.world.bot.json() | {"email": None, "mfa_enabled": False, "verified": True},
                "guilds": [{"id": str(self.world.guild.id), "unavailable": True}] if has_guild else [],
                "session_id": session.id,
                "resume_gateway_url": self.url,
                "session_type": "normal",
                "shard": shard,
                "application": application,
                "private_channels": [],
                "relationships": [],
                "presences": [],
                "user_settings": {},
                "_trace": ["imagine-sandbox"],
            },
        )
        if has_guild:
            all_members = Intent.GUILD_MEMBERS in session.intents
            session.dispatch("GUILD_CREATE", self.world.guild_create(all_members=all_members))
        if not was_online:
            self.world.emit(PresenceChanged(online=True))
        return session

    def _authentic(self, data: Any) -> bool:
        return isinstance(data, dict) and str(data.get("token")).removeprefix("Bot ") in self._tokens

    def _resume(self, connection: Connection, data: Any) -> Session | None:
        """A session that cannot be resumed answers op 9, after which the client may IDENTIFY on this socket."""
        if not self._authentic(data):
            raise Closed(CloseCode.AUTHENTICATION_FAILED, "Authentication failed.")
        session = self._sessions.get(data.get("session_id", ""))
        if session is None:
            connection.control(Opcode.INVALID_SESSION, False)
            return None
        sequence = data.get("seq")
        if not isinstance(sequence, int) or not session.can_resume(sequence):
            raise Closed(CloseCode.INVALID_SEQ, "Invalid seq.")
        was_online = self.online
        session.resume(connection, sequence)
        if not was_online:
            self.world.emit(PresenceChanged(online=True))
        return session

    def _detach(self, connection: Connection, close_code: int | None) -> None:
        """A client that says goodbye with 1000 or 1001 ends its session; any other end can be resumed."""
        for session in [s for s in self._sessions.values() if s.connection is connection]:
            session.connection = None
            if close_code in (1000, 1001):
                del self._sessions[session.id]
            if not self.online:
                self.world.emit(PresenceChanged(online=False))

    def _drop_oldest_session(self) -> None:
        idle = [session.id for session in self._sessions.values() if session.connection is None]
        for session_id in idle[: max(0, len(self._sessions) - SESSIONS_KEPT)]:
            del self._sessions[session_id]

    def _send_members(self, session: Session, data: Any) -> None:
        """GUILD_MEMBERS_CHUNK: by ids, or by a prefix of the name; all of them only with the members intent."""
        wanted = {str(user_id) for user_id in _as_list(data.get("user_ids"))}
        prefix = data.get("query", "")
        found = [
            member
            for member in self.world.guild.members.values()
            if (str(member.user.id) in wanted if wanted else member.user.username.startswith(prefix))
        ]
        limit = data.get("limit") or len(found)
        session.dispatch(
            "GUILD_MEMBERS_CHUNK",
            {
                "guild_id": str(self.world.guild.id),
                "members": [member.json() for member in found[:limit]],
                "chunk_index": 0,
                "chunk_count": 1,
                "not_found": sorted(wanted - {str(member.user.id) for member in found}),
                "presences": [],
                "nonce": data.get("nonce"),
            },
        )

    # --- events -----------------------------------------------------------------------------------------------------

    def _hear(self, event: Event) -> None:
        match event:
            case MessageCreated(message):
                self._message("MESSAGE_CREATE", message)
            case MessageUpdated(message):
                self._message("MESSAGE_UPDATE", message)
            case MessageDeleted(message) if message.visible_to is None:
                data = {"id": str(message.id), "channel_id": str(message.channel.id)}
                if message.channel.guild_id is not None:
                    data["guild_id"] = str(message.channel.guild_id)
                self._dispatch(_messages_intent(message), "MESSAGE_DELETE", data)
            case TypingStarted(channel, user) if user is not self.world.bot:
                ids = {"channel_id": str(channel.id), "user_id": str(user.id)}
                self._dispatch(Intent.GUILD_MESSAGE_TYPING, "TYPING_START", ids | {"timestamp": int(time.time())})
            case ChannelDeleted(channel):
                self._dispatch(Intent.GUILDS, "CHANNEL_DELETE", channel.json())
            case ChannelUpdated(channel):
                self._dispatch(Intent.GUILDS, "CHANNEL_UPDATE", channel.json())
            case BotRemoved():
                self._dispatch(Intent.GUILDS, "GUILD_DELETE", {"id": str(self.world.guild.id)})

    def _dispatch(self, intent: Intent, name: str, data: Json) -> None:
        for session in self._sessions.values():
            if intent in session.intents:
                session.dispatch(name, data)

    def _message(self, name: str, message: Message) -> None:
        readable = Permission.VIEW_CHANNEL in self.world.permissions(self.world.bot.id, message.channel)
        if message.visible_to is not None or not readable:
            return
        data = message.json()
        if (guild_id := message.channel.guild_id) is not None:
            data["guild_id"] = str(guild_id)
            member = self.world.guild.members.get(message.author.id)
            if member is not None:
                data["member"] = member.json(with_user=False)
        for session in self._sessions.values():
            if _messages_intent(message) in session.intents:
                whole = Intent.MESSAGE_CONTENT in session.intents or self._addressed(message)
                session.dispatch(name, data if whole else data | _REDACTED)

    def _addressed(self, message: Message) -> bool:
        """The bot reads its own messages, those that mention it and direct ones without the content intent."""
        bot = self.world.bot
        return message.author is bot or bot in message.mentions or message.channel.recipient is not None


_REDACTED: Json = {"content": "", "embeds": [], "attachments": [], "components": []}


def _messages_intent(message: Message) -> Intent:
    return Intent.GUILD_MESSAGES if message.channel.recipient is None else Intent.DIRECT_MESSAGES


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
