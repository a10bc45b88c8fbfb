"""Frames survive the way through a stream, and whatever is not one is refused with a sentence."""

from __future__ import annotations

import asyncio
import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2i.api import PROTOCOL_VERSION, Cancel, GenerationRequest, ImageReady, Submit
from t2i.engine import protocol


def stream(data: bytes) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    return reader


def framed(message: object, *, version: int = PROTOCOL_VERSION) -> bytes:
    body = msgspec.msgpack.encode((version, message))
    return struct.pack(">I", len(body)) + body


async def test_commands_arrive_as_they_were_sent_until_the_stream_ends() -> None:
    request = GenerationRequest(prompt="ein Apfel 🍎", latents=(bytes(range(256)),), strength=0.5, seed=7)
    sent = [Submit(request_id="1", checkpoint="embedded", request=request), Cancel(request_id="1")]
    reader = stream(b"".join(map(protocol.frame, sent)))
    assert [await protocol.read_command(reader), await protocol.read_command(reader)] == sent
    assert await protocol.read_command(reader) is None


async def test_a_frame_cut_short_is_the_end_of_the_stream() -> None:
    assert await protocol.read_command(stream(protocol.frame(Cancel(request_id="1"))[:-1])) is None


async def test_another_version_is_refused_by_name_even_when_its_messages_look_different() -> None:
    reader = stream(framed({"unheard": "of"}, version=PROTOCOL_VERSION + 1))
    with pytest.raises(protocol.ProtocolError, match=rf"version {PROTOCOL_VERSION + 1} of the engine protocol"):
        await protocol.read_event(reader)


async def test_an_oversize_frame_is_refused_before_its_body_is_read() -> None:
    header_only = struct.pack(">I", protocol.MAX_MESSAGE + 1)
    with pytest.raises(protocol.ProtocolError, match="over the limit"):
        await protocol.read_event(stream(header_only))


def test_an_oversize_message_is_refused_before_it_is_sent() -> None:
    image = ImageReady(
        request_id="1", index=0, seed=0, width=1, height=1, png=bytes(protocol.MAX_MESSAGE + 1), latents=b""
    )
    with pytest.raises(protocol.ProtocolError, match="over the limit"):
        protocol.frame(image)


@pytest.mark.parametrize("request_", [GenerationRequest(prompt="\ud800"), GenerationRequest(prompt="a", seed=2**70)])
def test_what_msgpack_cannot_hold_is_refused_with_a_protocol_error(request_: GenerationRequest) -> None:
    with pytest.raises(protocol.ProtocolError, match="cannot be sent"):
        protocol.frame(Submit(request_id="1", checkpoint="embedded", request=request_))


async def test_a_malformed_command_says_whose_it_is() -> None:
    reader = stream(framed({"type": "submit", "request_id": "7", "checkpoint": 5, "request": {}}))
    with pytest.raises(protocol.MalformedMessage) as raised:
        await protocol.read_command(reader)
    assert raised.value.request_id == "7"


@given(st.binary(max_size=64))
def test_garbage_is_refused_or_ends_the_stream_but_never_breaks_the_reader(data: bytes) -> None:
    async def read() -> None:
        # Built here, because a StreamReader belongs to the running loop.
        try:
            await protocol.read_command(stream(struct.pack(">I", len(data)) + data))
        except protocol.ProtocolError:
            return
        raise AssertionError("garbage was taken for a command")

    asyncio.run(read())
