"""`imagine-bot sandbox`: the real bot in a local Discord, for somebody at the page or for a script."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from bot import child
from bot.errors import SettingsError
from bot.sandbox.model import Json
from bot.sandbox.script import run_script
from bot.sandbox.server import Sandbox


async def serve(host: str, port: int, data_dir: Path, say: Callable[[str], None]) -> int:
    """Serve the page until SIGINT or SIGTERM; returns the exit code. Raises SettingsError when it cannot listen."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with _sandbox(host, port) as sandbox, _bot_of(sandbox, data_dir) as bot:
        say(f"The sandbox is at {sandbox.url} (this is not Discord; Ctrl+C ends it)")
        await _first_of(asyncio.create_task(_until(stop)), bot.ended)
        say("Stopping the bot; its waiting jobs are kept.")
    return 0


async def play(steps: Sequence[str], data_dir: Path | None, out: Path | None, tell: Callable[[Json], None]) -> None:
    """Do the steps in a sandbox of their own and tell what each came to, as `bot.sandbox.script` describes it.

    Without `data_dir` nothing is kept. Raises StepFailed at the first step that fails.
    """

    async def play_all() -> None:
        async for report in run_script(sandbox.url, steps, out=out, kill=bot.kill):
            tell(report)

    with ExitStack() as stack:
        folder = data_dir or Path(stack.enter_context(TemporaryDirectory(prefix="imagine-bot-")))
        async with _sandbox("127.0.0.1", 0) as sandbox, _bot_of(sandbox, folder) as bot:
            await _first_of(asyncio.create_task(play_all()), bot.ended)


async def _first_of(work: asyncio.Task[None], bot: asyncio.Task[None]) -> None:
    """Until the work is done. Raises BotEnded when the bot is down for good before that."""
    try:
        await asyncio.wait({work, bot}, return_when=asyncio.FIRST_COMPLETED)
        await (work if work.done() else bot)
    finally:
        work.cancel()


async def _until(event: asyncio.Event) -> None:
    await event.wait()


def _bot_of(sandbox: Sandbox, data_dir: Path) -> AbstractAsyncContextManager[child.Child]:
    return child.running(child.environment(sandbox.api_base, sandbox.token, data_dir))


@asynccontextmanager
async def _sandbox(host: str, port: int) -> AsyncIterator[Sandbox]:
    sandbox = Sandbox()
    try:
        await sandbox.start(host, port)
    except (ValueError, OSError) as error:
        reason = f"port {port} is taken; choose another by --port" if isinstance(error, OSError) else str(error)
        raise SettingsError(f"The sandbox cannot listen on {host}: {reason}.") from None
    try:
        yield sandbox
    finally:
        await sandbox.close()
