"""Keeps the messages of cases and the notices to people as their rows say, whatever crashes in between.

A message that may have been sent is looked for before it is sent again; one that is there is only edited.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import aiohttp
import discord
from discord.http import Route, handle_message_parameters

from bot.jobs.delivery import Rendered
from bot.jobs.rounds import Rounds
from bot.moderation.cases import Case, CaseState
from bot.moderation.docket import CaseFile, Docket
from bot.moderation.hashes import variants
from bot.moderation.notices import Notice, Notices
from bot.moderation.reports import Reports
from bot.moderation.restrictions import Restrictions
from bot.moderation.review import Review
from bot.storage.images import ImageLost, ImageStore
from bot.storage.session import Database
from bot.views import cases as case_view
from bot.views import report as report_view

if TYPE_CHECKING:
    from bot.client import ImagineBot

log = logging.getLogger(__name__)

LOOK = 2.0
"""Seconds between two looks at what is to be told, without being woken."""
PAUSES = (5.0, 300.0)
"""Seconds before what Discord did not take is tried again: at first, and at most."""
AT_ONCE = 5
"""Messages that one channel gets between two looks, which is as many as Discord takes in 5 s."""
SKEW = timedelta(minutes=1)
"""How far this machine's clock and Discord's may be apart."""
SEARCHED = 100
"""Messages among which one that may have been sent is looked for."""

_GONE = (10003, 10008)  # unknown channel, unknown message


_Errand = tuple[str, Callable[[], Awaitable[None]]]
"""What is told, and how."""


class Casework(Rounds):
    """What moderators do with cases, and the loop that tells of it."""

    def __init__(self, bot: ImagineBot, database: Database, images: ImageStore) -> None:
        super().__init__("tell of cases", after_failure=LOOK)
        self.docket = Docket(database)
        self.reports = Reports(database)
        self.review = Review(database, images, variants)
        self.restrictions = Restrictions(database)
        self._bot = bot
        self._images = images
        self._notices = Notices(database)
        self._later: dict[str, tuple[float, float]] = {}
        """When to try again, and the pause after that, by what it is."""
        self._began = datetime.now(UTC)
        self._tried: set[int] = set()
        """Notices that Discord may have taken though its answer did not arrive."""

    def originals(self, file: CaseFile) -> list[bytes]:
        """The case's pictures as PNG, where they are still there; reads the disk."""
        found = []
        for image in file.images:
            with suppress(ImageLost):
                found.append(self._images.read(image.sha256))
        return found

    async def _look(self) -> float:
        await self._tell()
        return LOOK

    async def _tell(self) -> None:
        """Some of each channel's cases and some notices, so that a flood in one channel holds up no other."""
        await self.docket.void_pointless()
        lines: defaultdict[int | None, list[_Errand]] = defaultdict(list)
        for case, channel_id in await self.docket.unshown():
            errand = (f"the message of case {case.id}", partial(self._tell_case, case, channel_id))
            lines[case.channel_id or channel_id].append(errand)
        for notice in await self._notices.unsent():
            lines[None].append((f"notice {notice.id}", partial(self._tell_person, notice)))
        await asyncio.gather(*map(self._run, lines.values()))

    async def _run(self, errands: list[_Errand]) -> None:
        """What is not taken is tried again after growing pauses of its own: one channel that is closed to the bot must
        not keep others waiting, nor be knocked at every two seconds."""
        now = time.monotonic()
        due = [errand for errand in errands if self._later.get(errand[0], (now, 0.0))[0] <= now]
        for what, tell in due[:AT_ONCE]:
            try:
                await tell()
            except Exception as error:
                known = isinstance(error, discord.HTTPException | aiohttp.ClientError | OSError)
                log.warning(
                    "Not told yet, and tried again later: %s: %s", what, error, exc_info=None if known else error
                )
                _, pause = self._later.get(what, (0.0, PAUSES[0]))
                self._later[what] = (time.monotonic() + pause, min(2 * pause, PAUSES[1]))
            else:
                self._later.pop(what, None)

    # --- cases ------------------------------------------------------------------------------------------------------

    async def _tell_case(self, case: Case, review_channel_id: int | None) -> None:
        if case.message_id is None and case.posting_at is not None and case.channel_id is not None:
            message_id = await self._find(
                case.channel_id, case.posting_at, lambda message: _has_button(message, case.id)
            )
            if message_id is not None:
                await self.docket.posted(case.id, message_id)
                await self._edit(case, case.channel_id, message_id)
                return
        if case.message_id is not None and case.channel_id is not None:
            await self._edit(case, case.channel_id, case.message_id)
        elif case.state is not CaseState.OPEN:
            await self.docket.shown(case)  # decided before anybody was told of it
        elif review_channel_id is not None:
            await self._post(case, review_channel_id)

    async def _post(self, case: Case, channel_id: int) -> None:
        await self.docket.posting(case.id, channel_id)
        rendered = await self._rendered(case)
        message = await self._send(_messages(channel_id), rendered, nonce=f"case-{case.id}")
        await self.docket.posted(case.id, int(message["id"]))
        await self.docket.shown(case)

    async def _edit(self, case: Case, channel_id: int, message_id: int) -> None:
        route = Route(
            "PATCH", "/channels/{channel_id}/messages/{message_id}", channel_id=channel_id, message_id=message_id
        )
        try:
            await self._send(route, await self._rendered(case))
        except discord.NotFound as error:
            if error.code not in _GONE:
                raise
            await self.docket.not_posted(case.id)
            self.wake()  # somebody deleted it; what is open is posted anew
        else:
            await self.docket.shown(case)

    async def _rendered(self, case: Case) -> Rendered:
        file = await self.docket.look(case.id)
        return await asyncio.to_thread(lambda: case_view.render(file, self.originals(file)))

    # --- people -----------------------------------------------------------------------------------------------------

    async def _tell_person(self, notice: Notice) -> None:
        doubtful = notice.created_at < self._began or notice.id in self._tried
        self._tried.add(notice.id)
        try:
            channel = await self._bot.http.start_private_message(notice.user_id)
            channel_id = int(channel["id"])
            rendered = Rendered(report_view.notice(notice), [])
            if not doubtful or not await self._find(channel_id, notice.created_at, _says(notice.content)):
                await self._send(_messages(channel_id), rendered, nonce=f"notice-{notice.id}")
        except (discord.Forbidden, discord.NotFound) as refusal:
            log.info("Notice %d cannot be delivered: %s", notice.id, refusal)
        await self._notices.sent(notice.id)
        self._tried.discard(notice.id)

    # --- Discord ----------------------------------------------------------------------------------------------------

    async def _find(self, channel_id: int, since: datetime, wanted: Any) -> int | None:
        """Our message among those since then. A channel that is gone or closed to us has none."""
        after = discord.utils.time_snowflake(since - SKEW)
        try:
            found = await self._bot.http.logs_from(channel_id, SEARCHED, after=after)
        except (discord.Forbidden, discord.NotFound):
            return None
        assert self._bot.user is not None, "logged in before anything is told"
        own = (m for m in found if int(m["author"]["id"]) == self._bot.user.id and wanted(m))
        return next((int(message["id"]) for message in own), None)

    async def _send(self, route: Route, rendered: Rendered, *, nonce: str | None = None) -> Any:
        parameters = handle_message_parameters(
            view=rendered.view,
            attachments=rendered.files,
            allowed_mentions=discord.AllowedMentions.none(),
            nonce=nonce,
        )
        with parameters:
            if parameters.files:
                form = parameters.multipart
                return await self._bot.http.request(route, files=parameters.files, form=form)
            return await self._bot.http.request(route, json=parameters.payload)


def _messages(channel_id: int) -> Route:
    return Route("POST", "/channels/{channel_id}/messages", channel_id=channel_id)


def _has_button(message: Any, case_id: int) -> bool:
    ids = (str(component.get("custom_id", "")) for component in _walk(message["components"]))
    return any(custom_id.startswith("case:") and custom_id.endswith(f":{case_id}") for custom_id in ids)


def _says(content: str) -> Any:
    said = discord.utils.escape_mentions(content)
    return lambda message: any(component.get("content") == said for component in _walk(message["components"]))


def _walk(components: list[Any]) -> Iterator[Any]:
    for component in components:
        yield component
        yield from _walk(component.get("components", []))
