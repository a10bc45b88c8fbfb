"""One message that is edited as something goes on."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

import aiohttp
import discord

from bot.views.changes import Shown

log = logging.getLogger(__name__)

INTERVAL = 1.5
"""Seconds between two edits that only tell of progress."""
QUICK = 0.5
"""Seconds before the first of them: what is done by then needs none."""
PAUSES = (1.0, 5.0, 20.0)
"""Seconds after which the last word is said again, when Discord did not take it."""


class Note:
    """Edited as the bot, not by the interaction's token: that dies after a quarter of an hour, and with a restart."""

    def __init__(self, client: discord.Client, channel_id: int, message_id: int) -> None:
        self._message = client.get_partial_messageable(channel_id).get_partial_message(message_id)
        self._next: Shown | None = None
        self._telling: asyncio.Task[None] | None = None
        self._over = asyncio.Event()

    def progress(self, shown: Shown) -> None:
        """Show this soon, in the background: whoever makes progress never waits for Discord, and the newest counts."""
        self._next = shown
        if self._telling is None or self._telling.done():
            self._telling = asyncio.create_task(self._tell(), name="tell of a change of checkpoints")

    async def last(self, shown: Shown) -> bool:
        """How it ended; tried some times. False when Discord took none of them, though it may take a later one."""
        self._next = None
        self._over.set()
        if self._telling is not None:
            await self._telling
        for pause in (*PAUSES, None):
            try:
                for file in shown.files:
                    file.reset()
                await self._message.edit(view=shown.view, attachments=list(shown.files))
            except (discord.Forbidden, discord.NotFound) as error:
                log.warning("How a change of checkpoints ended cannot be shown: %s", error)
            except (discord.HTTPException, aiohttp.ClientError, OSError) as error:
                log.warning("How a change of checkpoints ended was not shown: %s", error)
                if pause is None:
                    return False
                await asyncio.sleep(pause)
                continue
            return True
        return False

    async def _tell(self) -> None:
        pause = QUICK
        while self._next is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._over.wait()
            shown, self._next, pause = self._next, None, INTERVAL
            if shown is None:
                return  # the last word comes instead
            try:
                await self._message.edit(view=shown.view)
            except (discord.HTTPException, aiohttp.ClientError, OSError) as error:
                log.warning("Progress could not be shown: %s", error)


async def find_answer(client: discord.Client, interaction_token: str) -> int | None:
    """The id of the message that answered an interaction; None where there is none, or nobody can tell any more."""
    route = discord.http.Route(
        "GET",
        "/webhooks/{webhook_id}/{webhook_token}/messages/@original",
        webhook_id=client.application_id,
        webhook_token=interaction_token,
    )
    try:
        message = await client.http.request(route)
    except (discord.HTTPException, aiohttp.ClientError, OSError):
        return None
    return int(message["id"])
