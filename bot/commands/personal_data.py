"""What is kept about people, and the loops that delete it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bot.jobs.erasing import Deletions
from bot.jobs.service import JobService
from bot.moderation.export import Export
from bot.moderation.privacy import Privacy
from bot.moderation.retention import Retention
from bot.storage.images import ImageStore
from bot.storage.session import Database

if TYPE_CHECKING:
    from bot.client import ImagineBot


class PersonalData:
    def __init__(
        self,
        bot: ImagineBot,
        database: Database,
        images: ImageStore,
        jobs: JobService,
        *,
        retention_days: int | None,
    ) -> None:
        self._deletions = Deletions(database, bot)
        self._retention = Retention(database, images, retention_days)
        self.privacy = Privacy(database, images, abandon=jobs.abandon, deletions=self._deletions)
        self.export = Export(database, images)
        self.retention_days = retention_days
        """Where a server set nothing."""

    def start(self) -> None:
        """The client must be logged in."""
        self._deletions.start()
        self._retention.start()

    async def stop(self) -> None:
        await self._deletions.stop()
        await self._retention.stop()
