"""What goes over a gateway websocket: opcodes, close codes, intents, compression, and the order of payloads.

A `Connection` is one websocket. A `Session` outlives it: it numbers and keeps what it dispatched, so a client that
comes back with RESUME gets what it missed.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import zlib
from collections import deque
from collections.abc import Callable
from enum import IntEnum, IntFlag
from typing import Any, Protocol

import zstandard
from aiohttp import web

from bot.sandbox.model import Json

REPLAY_LIMIT = 1000
"""Events a session keeps for RESUME."""


class Opcode(IntEnum):
    DISPATCH = 0
    HEARTBEAT = 1
    IDENTIFY = 2
    PRESENCE_UPDATE = 3
    VOICE_STATE_UPDATE = 4
    RESUME = 6
    RECONNECT = 7
    REQUEST_GUILD_MEMBERS = 8
    INVALID_SESSION = 9
    HELLO = 10
    HEARTBEAT_ACK = 11
    REQUEST_SOUNDBOARD_SOUNDS = 31


class CloseCode(IntEnum):
    UNKNOWN_ERROR = 4000
    UNKNOWN_OPCODE = 4001
    DECODE_ERROR = 4002
    NOT_AUTHENTICATED = 4003
    AUTHENTICATION_FAILED = 4004
    ALREADY_AUTHENTICATED = 4005
    INVALID_SEQ = 4007
    SESSION_TIMED_OUT = 4009
    INVALID_SHARD = 4010
    INVALID_API_VERSION = 4012
    INVALID_INTENTS = 4013
    DISALLOWED_INTENTS = 4014


class Intent(IntFlag):
    NONE = 0
    GUILDS = 1 << 0
    GUILD_MEMBERS = 1 << 1
    GUILD_PRESENCES = 1 << 8
    GUILD_MESSAGES = 1 << 9
    GUILD_MESSAGE_TYPING = 1 << 11
    DIRECT_MESSAGES = 1 << 12
    DIRECT_MESSAGE_TYPING = 1 << 14
    MESSAGE_CONTENT = 1 << 15


PRIVILEGED = Intent.GUILD_MEMBERS | Intent.GUILD_PRESENCES | Intent.MESSAGE_CONTENT
ANY_INTENT = (1 << 26) - 1

Encoder = Callable[[bytes], bytes]


class Closed(Exception):
    """The server ends the connection with a code."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self, mode: int, /) -> bytes: ...


def _stream(compressor: _Compressor, flush_mode: int) -> Encoder:
    """One stream over the whole connection, flushed after every message."""
    return lambda payload: compressor.compress(payload) + compressor.flush(flush_mode)


def transport(name: str | None) -> Encoder | None:
    """The transport compression a client asked for; None sends text. Raises ValueError for an unknown one."""
    match name:
        case None | "":
            return None
        case "zlib-stream":
            return _stream(zlib.compressobj(), zlib.Z_SYNC_FLUSH)
        case "zstd-stream":
            return _stream(zstandard.ZstdCompressor().compressobj(), zstandard.COMPRESSOBJ_FLUSH_BLOCK)
    raise ValueError(name)


class Connection:
    """One websocket; payloads leave in the order they were put."""

    def __init__(self, ws: web.WebSocketResponse, tcp: asyncio.Transport | None, encode: Encoder | None) -> None:
        self.ws = ws
        self._tcp = tcp
        self._encode = encode
        self._outgoing: asyncio.Queue[Json | Closed] = asyncio.Queue()

    def put(self, payload: Json) -> None:
        self._outgoing.put_nowait(payload)

    def control(self, opcode: Opcode, data: Any = None) -> None:
        """A payload outside the numbered sequence of events."""
        self.put({"op": opcode, "t": None, "s": None, "d": data})

    def close(self, code: int, reason: str = "") -> None:
        """Close after what was put before."""
        self._outgoing.put_nowait(Closed(code, reason))

    def drop(self) -> None:
        """Cut the TCP connection without a goodbye, as a failing network does."""
        if self._tcp is not None:
            self._tcp.abort()

    async def write(self) -> None:
        """Send what was put until closed."""
        while True:
            item = await self._outgoing.get()
            if isinstance(item, Closed):
                await self.ws.close(code=item.code, message=item.reason.encode())
                return
            payload = json.dumps(item, separators=(",", ":"))
            if self._encode is None:
                await self.ws.send_str(payload)
            else:
                await self.ws.send_bytes(self._encode(payload.encode()))


class Session:
    """What one IDENTIFY began."""

    def __init__(self, intents: Intent, shard: list[int]) -> None:
        self.id = secrets.token_hex(16)
        self.intents = intents
        self.shard = shard
        self.connection: Connection | None = None
        self._sequence = 0
        self._history: deque[Json] = deque(maxlen=REPLAY_LIMIT)

    def dispatch(self, name: str, data: Json) -> None:
        self._sequence += 1
        payload = {"op": Opcode.DISPATCH, "t": name, "s": self._sequence, "d": data}
        self._history.append(payload)
        if self.connection is not None:
            self.connection.put(payload)

    def can_resume(self, sequence: int) -> bool:
        oldest = self._history[0]["s"] if self._history else 1
        return oldest - 1 <= sequence <= self._sequence

    def resume(self, connection: Connection, sequence: int) -> None:
        if self.connection is not None and self.connection is not connection:
            self.connection.close(CloseCode.UNKNOWN_ERROR, "Resumed elsewhere.")
        self.connection = connection
        for payload in [payload for payload in self._history if payload["s"] > sequence]:
            connection.put(payload)
        self.dispatch("RESUMED", {"_trace": ["imagine-sandbox"]})


def decode(data: str | bytes) -> tuple[int, Any]:
    try:
        payload = json.loads(data)
        return int(payload["op"]), payload.get("d")
    except (ValueError, TypeError, KeyError, AttributeError):
        raise Closed(CloseCode.DECODE_ERROR, "Error while decoding payload.") from None


def application_flags(privileged: Intent) -> int:
    """The application's flags that say which privileged intents its owner switched on."""
    flags = 0
    for intent, flag in (
        (Intent.GUILD_PRESENCES, 1 << 13),
        (Intent.GUILD_MEMBERS, 1 << 15),
        (Intent.MESSAGE_CONTENT, 1 << 19),
    ):
        if intent in privileged:
            flags |= flag
    return flags
