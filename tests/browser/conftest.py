"""Chromium at the sandbox's page, beside the real bot or beside a small one that shows every kind of component."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from bot.sandbox.server import Sandbox
from tests.bot.e2e.studio import Bot
from tests.browser.parlour import Parlour

if TYPE_CHECKING:
    from tests.browser.chat import Browser, Chat

CHROMIUM_ARGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE_MS = 60_000
"""How long a test waits for anything at all; an engine that starts on a busy machine takes some."""


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def chromium() -> AsyncIterator[Browser]:
    from tests.browser.chat import async_playwright, expect, missing

    executable = shutil.which("chromium") or missing("Chromium")
    expect.set_options(timeout=PATIENCE_MS)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=executable, args=CHROMIUM_ARGS)
        yield browser
        await browser.close()


Visit = Callable[..., Awaitable["Chat"]]


@pytest_asyncio.fixture(loop_scope="session")
async def visit(chromium: Browser) -> AsyncIterator[Visit]:
    """Opens the page of a sandbox in a window of its own: `await visit(sandbox, "bob", width=390)`.

    Afterwards no window may have logged an error or asked anybody but its own server for anything.
    """
    from tests.browser.chat import Chat

    windows: list[Chat] = []
    async with AsyncExitStack() as stack:

        async def open_window(sandbox: Sandbox, username: str, *, width: int = 1280, height: int = 900) -> Chat:
            context = await chromium.new_context(viewport={"width": width, "height": height}, locale="en-US")
            stack.push_async_callback(context.close)
            context.set_default_timeout(PATIENCE_MS)
            windows.append(Chat(await context.new_page(), sandbox.url))
            await windows[-1].open(next(user.id for user in sandbox.world.users.values() if user.username == username))
            return windows[-1]

        yield open_window
        for window in windows:
            assert window.errors == []
            assert window.strangers == []


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def imagine(
    chromium: Browser, tmp_path_factory: pytest.TempPathFactory, checkpoints_dir: Path
) -> AsyncIterator[Sandbox]:
    """A sandbox with the real bot in it, drawing with the tiny checkpoint."""
    settings = {
        "IMAGINE_CHECKPOINTS_DIR": str(checkpoints_dir),
        "IMAGINE_CHECKPOINT": "tiny",
        "OMP_NUM_THREADS": "1",
    }
    async with Sandbox() as sandbox:
        bot = Bot(sandbox, tmp_path_factory.mktemp("browser") / "data", settings)
        await bot.start()
        yield sandbox
        await bot.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def parlour(chromium: Browser) -> AsyncIterator[Sandbox]:
    """A sandbox with a bot that shows what a bot can show, and waits half a second for answers instead of three."""
    with pytest.MonkeyPatch.context() as patch:
        async with Sandbox(ack_seconds=0.5) as sandbox, Parlour.in_sandbox(sandbox, patch):
            yield sandbox
