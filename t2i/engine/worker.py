"""The engine process: `python -m t2i.engine.worker --socket FD`, started by `t2i.engine.client.LocalEngine`.

The main thread runs the socket loop, so commands and heartbeats never wait for a step; a thread of its own runs the
step loop. The process ends when its parent closes the socket, and on Linux when the parent is killed.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from t2i.api import (
    PROTOCOL_VERSION,
    Add,
    Cancel,
    Drain,
    Event,
    Failed,
    Fatal,
    Hardware,
    Heartbeat,
    Hello,
    Prefetch,
    Remove,
    Settle,
    Submit,
    T2IError,
    Verify,
)
from t2i.engine import protocol

if TYPE_CHECKING:
    from t2i.engine.keeper import Keeper
    from t2i.engine.loop import StepLoop

REQUESTS_IN_FLIGHT = 16
ROWS_PER_TICK = {"cpu": 16, "cuda": 64, "mps": 16}
"""By kind of device. Two requests of four guided pictures make 16 rows."""

NICENESS = 10
"""So that whoever waits for an answer of the parent gets it while the processors are all in use."""

PR_SET_PDEATHSIG = 1

logger = logging.getLogger(__name__)


def main() -> NoReturn:
    # Ctrl-C in the terminal is for the parent, which decides when the worker ends. Not a session of its own: Linux
    # weighs niceness only among the processes of one.
    os.setpgid(0, 0)
    options = parse_arguments()
    logging.basicConfig(level=logging.WARNING, format="engine: %(levelname)s %(message)s")
    die_with_parent()
    os.nice(NICENESS)
    # Service managers send SIGTERM to every process; the parent still has pictures to finish, and decides.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    asyncio.run(serve(options))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m t2i.engine.worker", description="The engine process of t2i.")
    parser.add_argument("--socket", type=int, required=True, help="file descriptor of a connected unix socket")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    parser.add_argument("--dtype", default="auto", help="auto, float32, float16 or bfloat16")
    parser.add_argument("--text-device", help="where text encoders compute, if elsewhere")
    parser.add_argument("--vae-device", help="where autoencoders compute, if elsewhere")
    parser.add_argument("--offload", action="store_true", help="text encoders and autoencoders rest in main memory")
    parser.add_argument("--checkpoints-dir", type=Path, help="folder with further checkpoints")
    parser.add_argument("--device-budget", type=int, help="bytes of weights on the device")
    parser.add_argument("--memory-budget", type=int, help="bytes of weights that rest in main memory")
    parser.add_argument("--default", default="embedded", help="checkpoint loaded before any work is taken")
    return parser.parse_args()


def die_with_parent() -> None:
    """Ask Linux to kill this process with its parent; elsewhere the end of the socket has to do."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


async def serve(options: argparse.Namespace) -> NoReturn:
    """Answer the parent until it is gone, everything is drained, or nothing more can be done; then leave."""
    reader, writer = await asyncio.open_unix_connection(sock=socket.socket(fileno=options.socket))
    loop = asyncio.get_running_loop()

    def emit(event: Event) -> None:
        # Not flow-controlled: what one request says is bounded, and so is the number of requests.
        loop.call_soon_threadsafe(writer.write, protocol.frame(event))

    code = 1
    try:
        steps, keeper, hello = await asyncio.to_thread(start_up, options, emit)
        emit(hello)
        await first_to_end(run_in_thread(steps), obey(reader, steps, keeper, emit), heartbeat(steps, emit))
        code = 0
    except T2IError as error:
        writer.write(protocol.frame(Fatal(message=str(error))))
    except Exception:
        logger.exception("the worker failed")
        writer.write(protocol.frame(Fatal(message="The image engine met an error of its own: see its log.")))
    await flush(writer)
    logging.shutdown()
    # Not sys.exit: it would wait for a step or a load that nobody wants any more.
    os._exit(code)


def start_up(options: argparse.Namespace, emit: Callable[[Event], None]) -> tuple[StepLoop, Keeper, Hello]:
    """Load the default checkpoint. Raises CheckpointError."""
    # Imported here, because torch takes seconds and the parent's death must be noticed from the first one on.
    from t2i.checkpoints.shelf import survey
    from t2i.engine.calibration import Calibration, default_folder
    from t2i.engine.keeper import Keeper
    from t2i.engine.loop import StepLoop
    from t2i.engine.models import Models

    hardware = Hardware(**{name: getattr(options, name) for name in Hardware.__struct_fields__})
    models = Models(
        options.checkpoints_dir,
        hardware,
        device_budget=options.device_budget,
        memory_budget=options.memory_budget,
    )
    model = models.load(options.default).result()
    models.add(options.default, model)
    shelf = survey(options.checkpoints_dir)
    for damaged in shelf.damaged:
        logger.warning("%s", damaged.problem)
    kind = model.device.type
    hello = Hello(
        version=PROTOCOL_VERSION,
        device=str(model.device),
        capacity=REQUESTS_IN_FLIGHT,
        shelf=shelf,
        loaded=models.loaded,
        weights=models.weights,
    )
    rows = ROWS_PER_TICK[kind]
    calibration = Calibration(default_folder(), most_rows=rows)
    steps = StepLoop(models, emit, row_cap=rows, calibration=calibration)
    return steps, Keeper(options.checkpoints_dir, emit, removed=steps.forget), hello


async def run_in_thread(steps: StepLoop) -> None:
    """Run the step loop until it is drained; raises what ended it otherwise."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()

    def run() -> None:
        try:
            steps.run()
        except BaseException as error:
            loop.call_soon_threadsafe(ended.set_exception, error)
        else:
            loop.call_soon_threadsafe(ended.set_result, None)

    # A daemon, not asyncio.to_thread: when the parent is gone, nobody waits for the step that is being done.
    threading.Thread(target=run, name="steps", daemon=True).start()
    await ended


async def obey(reader: asyncio.StreamReader, steps: StepLoop, keeper: Keeper, emit: Callable[[Event], None]) -> None:
    """Pass the parent's commands on until it closes the socket. Raises ProtocolError."""
    while True:
        try:
            command = await protocol.read_command(reader)
        except protocol.MalformedMessage as error:
            if error.request_id is None:
                raise
            emit(Failed(request_id=error.request_id, code="invalid", message=str(error)))
            continue
        match command:
            case Submit():
                steps.submit(command)
            case Cancel(request_id=request_id):
                steps.cancel(request_id)
                keeper.cancel(request_id)
            case Settle(checkpoint=checkpoint, keep=keep):
                steps.settle(checkpoint, keep=keep)
            case Add() | Remove() | Verify():
                keeper.run(command)
            case Prefetch(checkpoint=checkpoint):
                steps.prefetch(checkpoint)
            case Drain():
                steps.drain()
            case None:
                return


async def heartbeat(steps: StepLoop, emit: Callable[[Event], None]) -> None:
    while True:
        await asyncio.sleep(protocol.HEARTBEAT_SECONDS)
        emit(Heartbeat(ticks=steps.ticks, busy=steps.busy))


async def first_to_end(*parts: Coroutine[Any, Any, None]) -> None:
    """Run all until one ends, and raise what it raised."""
    done, _ = await asyncio.wait([asyncio.create_task(part) for part in parts], return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()


async def flush(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


if __name__ == "__main__":
    main()
