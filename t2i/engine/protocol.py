"""How the engine process and its parent talk: frames of a 4-byte big-endian length and msgpack `[version, message]`.

The version stands outside the message, so that a peer of another version is named as such even when the shape of
its messages has changed.
"""

from __future__ import annotations

import asyncio
import struct
from typing import TypeVar

import msgspec

from t2i.api import PROTOCOL_VERSION, Command, EngineError, Event

MAX_MESSAGE = 64 * 2**20
"""Bytes in one message; far above four pictures with their latents, far below what would hurt a process."""

HEARTBEAT_SECONDS = 1.0
"""How often a worker says that it lives."""

T = TypeVar("T")

_HEADER = struct.Struct(">I")
_encoder = msgspec.msgpack.Encoder()


class ProtocolError(EngineError):
    """The peer said something that this side does not understand; the connection cannot go on."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="protocol")


class MalformedMessage(ProtocolError):
    """One message has a field of the wrong type; the frames around it are sound."""

    def __init__(self, message: str, request_id: str | None) -> None:
        super().__init__(message)
        self.request_id = request_id


class _Envelope(msgspec.Struct, array_like=True):
    version: int
    message: msgspec.Raw


class _Addressed(msgspec.Struct):
    request_id: str | None = None


_envelopes = msgspec.msgpack.Decoder(_Envelope)
_addresses = msgspec.msgpack.Decoder(_Addressed)
_commands: msgspec.msgpack.Decoder[Command] = msgspec.msgpack.Decoder(Command)
_events: msgspec.msgpack.Decoder[Event] = msgspec.msgpack.Decoder(Event)


def frame(message: Command | Event) -> bytes:
    """The bytes to send for `message`. Raises ProtocolError when it is too large or holds what msgpack cannot."""
    try:
        body = _encoder.encode((PROTOCOL_VERSION, message))
    except (TypeError, ValueError, OverflowError) as error:
        raise ProtocolError(f"The message cannot be sent: {error}.") from error
    _refuse_oversize(len(body))
    return _HEADER.pack(len(body)) + body


async def read_command(reader: asyncio.StreamReader) -> Command | None:
    """The next command, or None at the end of the stream. Raises ProtocolError."""
    return await _read(reader, _commands)


async def read_event(reader: asyncio.StreamReader) -> Event | None:
    """The next event, or None at the end of the stream. Raises ProtocolError."""
    return await _read(reader, _events)


async def _read(reader: asyncio.StreamReader, decoder: msgspec.msgpack.Decoder[T]) -> T | None:
    try:
        (length,) = _HEADER.unpack(await reader.readexactly(_HEADER.size))
        _refuse_oversize(length)
        body = await reader.readexactly(length)
    except (asyncio.IncompleteReadError, ConnectionError):
        # A frame cut short means the same as a closed stream: the peer is gone.
        return None
    return _decode(body, decoder)


def _decode(body: bytes, decoder: msgspec.msgpack.Decoder[T]) -> T:
    try:
        envelope = _envelopes.decode(body)
    except msgspec.DecodeError as error:
        raise ProtocolError(f"The peer does not speak the engine's protocol: {error}.") from error
    if envelope.version != PROTOCOL_VERSION:
        raise ProtocolError(
            f"The peer speaks version {envelope.version} of the engine protocol and this side version "
            f"{PROTOCOL_VERSION}: restart the bot so that both run the same release."
        )
    try:
        return decoder.decode(envelope.message)
    except msgspec.ValidationError as error:
        raise MalformedMessage(f"A message is malformed: {error}.", _request_id(envelope.message)) from error


def _request_id(message: msgspec.Raw) -> str | None:
    try:
        return _addresses.decode(message).request_id
    except msgspec.ValidationError:
        return None


def _refuse_oversize(length: int) -> None:
    if length > MAX_MESSAGE:
        raise ProtocolError(f"A message of {length:,} bytes is over the limit of {MAX_MESSAGE:,}.")
