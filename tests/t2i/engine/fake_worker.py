"""A worker that misbehaves on purpose: `fake_worker.py BEHAVIOUR NOTES_FILE --socket FD`. Imports no torch."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
import time
from pathlib import Path

import msgspec

from t2i.api import PROTOCOL_VERSION, Admitted, Cancel, Fatal, Heartbeat, Hello, Prefetch, Shelf, Submit
from t2i.engine import protocol

HELLO = Hello(version=PROTOCOL_VERSION, device="fake", capacity=2, shelf=Shelf(), loaded=())


async def obey(parent: socket.socket, notes: Path) -> None:
    """Admit every request and write down every cancel and prefetch."""
    reader, writer = await asyncio.open_unix_connection(sock=parent)
    writer.write(protocol.frame(HELLO))
    while command := await protocol.read_command(reader):
        match command:
            case Submit(request_id=request_id, checkpoint=checkpoint):
                admitted = Admitted(
                    request_id=request_id,
                    checkpoint=checkpoint,
                    seed=0,
                    steps=8,
                    sampler="ddim",
                    guidance_scale=1.0,
                    width=64,
                    height=64,
                )
                writer.write(protocol.frame(admitted))
            case Cancel(request_id=request_id):
                with notes.open("a") as file:
                    file.write(f"cancelled {request_id}\n")
            case Prefetch(checkpoint=checkpoint):
                with notes.open("a") as file:
                    file.write(f"prefetched {checkpoint}\n")


def main(behaviour: str, notes: Path, descriptor: int) -> int:
    with notes.open("a") as file:
        file.write("started\n")
    first_start = len(notes.read_text().splitlines()) == 1
    parent = socket.socket(fileno=descriptor)
    match behaviour:
        case "crash":
            return 3
        case "crash once" if first_start:
            return 3
        case "explain":
            parent.sendall(protocol.frame(Fatal(message="The checkpoint is damaged.")))
            return 1
        case "old release":
            body = msgspec.msgpack.encode((PROTOCOL_VERSION - 1, {"type": "hello"}))
            parent.sendall(struct.pack(">I", len(body)) + body)
        case "too much":
            parent.sendall(struct.pack(">I", protocol.MAX_MESSAGE + 1))
        case "fall silent" | "crash once":
            parent.sendall(protocol.frame(HELLO))
        case "obey":
            asyncio.run(obey(parent, notes))
        case "hang":
            parent.sendall(protocol.frame(HELLO))
            while True:
                parent.sendall(protocol.frame(Heartbeat(ticks=7, busy=True)))
                time.sleep(0.001)
        case "never ready":
            pass
    time.sleep(60)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[4])))
