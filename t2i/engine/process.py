"""One life of a worker process: start it, talk to it over a socket pair, see it end."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Sequence
from contextlib import suppress
from typing import Self

from t2i.api import Command, EngineError, Event, Fatal
from t2i.engine import protocol

EXIT_SECONDS = 5.0
"""How long a worker that closed its socket may take to leave by itself."""


class WorkerProcess:
    def __init__(self, process: Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer

    @classmethod
    async def start(cls, command: Sequence[str]) -> Self:
        """Run `command --socket FD`, where FD is its end of a socket pair: nobody else can connect to that."""
        ours, theirs = socket.socketpair()
        # Threads that spin between two steps would take the processor from the parent.
        environment = {"OMP_WAIT_POLICY": "PASSIVE", "TRANSFORMERS_VERBOSITY": "error", **os.environ}
        try:
            with theirs:
                process = await asyncio.create_subprocess_exec(
                    *command,
                    "--socket",
                    str(theirs.fileno()),
                    pass_fds=(theirs.fileno(),),
                    env=environment,
                    stdin=DEVNULL,
                    stdout=DEVNULL,
                )
            reader, writer = await asyncio.open_unix_connection(sock=ours)
        except BaseException as error:
            ours.close()
            if isinstance(error, OSError):
                raise EngineError(f"The engine process cannot be started: {error}.") from error
            raise
        return cls(process, reader, writer)

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, command: Command) -> None:
        """Raises ProtocolError when the command cannot be encoded; to a worker that is gone it goes nowhere."""
        frame = protocol.frame(command)
        if not self._writer.is_closing():
            self._writer.write(frame)

    async def receive(self, timeout: float) -> Event:
        """The next event. Raises EngineError with the reason when none comes in `timeout` seconds or ever again."""
        try:
            async with asyncio.timeout(timeout):
                event = await protocol.read_event(self._reader)
        except TimeoutError:
            raise EngineError(f"The engine process said nothing for {timeout:g} s.") from None
        if event is None:
            raise EngineError(await self._epitaph())
        if isinstance(event, Fatal):
            raise EngineError(event.message)
        return event

    async def kill(self) -> None:
        """End the process now, if it has not ended, and reap it."""
        self._writer.close()
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    async def _epitaph(self) -> str:
        try:
            async with asyncio.timeout(EXIT_SECONDS):
                code = await self._process.wait()
        except TimeoutError:
            return "The engine process closed its socket."
        if code < 0:
            return f"The engine process was ended by {signal.Signals(-code).name}."
        return f"The engine process ended with exit code {code}."
