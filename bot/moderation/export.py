"""Everything that is kept about somebody, as zip files small enough for Discord."""

from __future__ import annotations

import asyncio
import io
import json
import zipfile
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import Row, Table, select
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.errors import TooLarge
from bot.jobs.model import Showing
from bot.moderation.audit_log import concerns
from bot.storage import tables
from bot.storage.images import ImageLost, ImageStore
from bot.storage.session import Database

MOST_FILES = 20
"""Zip files that one person gets at once."""
OVERHEAD = 65_536
"""Bytes that a zip file needs besides its pictures, at most."""

_jobs, _images, _cases, _audit = tables.jobs, tables.images, tables.cases, tables.audit
_OTHERS = {"interaction_token", "decided_by", "posting_at", "shown_at", "revision", "phash", "latents_sha256"}
"""Secrets, other people, and what only the machinery needs."""


@dataclass(frozen=True, slots=True)
class Picture:
    name: str
    sha256: str
    size: int


class Export:
    def __init__(self, database: Database, images: ImageStore) -> None:
        self._database = database
        self._images = images

    async def zips(self, user_id: int, *, limit: int, since: datetime | None = None) -> AsyncIterator[bytes]:
        """Zip files of at most `limit` bytes each: the first holds what is known in JSON, all hold pictures.

        Pictures are those of jobs asked for since then. Raises TooLarge before the first, when it would be too many.
        """
        async with self._database.read() as connection:
            documents = await _documents(connection, user_id)
            known = await _pictures(connection, user_id, since)
        encoded = {f"{name}.json": json.dumps(rows, indent=1).encode() for name, rows in documents.items()}
        parts = await asyncio.to_thread(self._planned, encoded, known, limit)
        for number, part in enumerate(parts):
            yield await asyncio.to_thread(self._zipped, encoded if number == 0 else {}, part)

    def _planned(
        self, documents: dict[str, bytes], known: Iterable[tuple[str, str]], limit: int
    ) -> list[list[Picture]]:
        """Which pictures go into which file."""
        used = len(_zip(documents, [])) + OVERHEAD
        if used > limit:
            raise TooLarge("There is more about you than one file of this server can hold: ask the bot's operator.")
        parts: list[list[Picture]] = [[]]
        for name, sha256 in known:
            picture = Picture(name, sha256, self._images.size(sha256))
            if used + picture.size > limit and parts[-1]:
                parts.append([])
                used = OVERHEAD
            used += picture.size
            parts[-1].append(picture)
        if len(parts) > MOST_FILES:
            raise TooLarge(
                f"Your pictures would fill {len(parts)} files, and {MOST_FILES} are the most at once: "
                "ask for those of fewer days."
            )
        return parts

    def _zipped(self, documents: dict[str, bytes], pictures: Sequence[Picture]) -> bytes:
        files = []
        for picture in pictures:
            with suppress(ImageLost):
                files.append((picture.name, self._images.read(picture.sha256)))
        return _zip(documents, files)


def _zip(documents: dict[str, bytes], pictures: Iterable[tuple[str, bytes]]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in documents.items():
            archive.writestr(name, data, zipfile.ZIP_DEFLATED)
        for name, data in pictures:
            archive.writestr(name, data)  # PNG does not get smaller
    return content.getvalue()


async def _documents(connection: AsyncConnection, user_id: int) -> dict[str, Any]:
    """Rows by the name of their file."""
    of_user: dict[str, Table] = {
        "charges": tables.charges,
        "reports": tables.reports,
        "cases": tables.cases,
        "restrictions": tables.restrictions,
        "terms": tables.terms_accepted,
        "notices": tables.notices,
        "checkpoint changes": tables.checkpoint_changes,
    }
    documents: dict[str, Any] = {"jobs": await _rows(connection, _jobs, _jobs.c.user_id == user_id)}
    for job in documents["jobs"]:
        job["options"] = json.loads(job["options"])
    mine = select(_jobs.c.id).where(_jobs.c.user_id == user_id)
    documents["pictures"] = await _rows(connection, _images, _images.c.job_id.in_(mine))
    for name, table in of_user.items():
        documents[name] = await _rows(connection, table, table.c.user_id == user_id)
    pseudonym = await connection.scalar(
        select(tables.pseudonyms.c.pseudonym).where(tables.pseudonyms.c.user_id == user_id)
    )
    documents["audit log"] = await _rows(connection, _audit, concerns(pseudonym)) if pseudonym else []
    return documents


async def _rows(connection: AsyncConnection, table: Table, whose: Any) -> list[dict[str, Any]]:
    found = await connection.execute(select(table).where(whose).order_by(*table.primary_key.columns))
    return [_told(row) for row in found]


def _told(row: Row[Any]) -> dict[str, Any]:
    values = {name: value for name, value in row._mapping.items() if name not in _OTHERS}
    return {name: value.isoformat() if isinstance(value, date) else value for name, value in values.items()}


async def _pictures(connection: AsyncConnection, user_id: int, since: datetime | None) -> list[tuple[str, str]]:
    """File names and SHA-256. What moderators hold back from everybody is not handed out this way either."""
    seen = [showing for showing in Showing if showing.seen]
    theirs = (_jobs.c.user_id == user_id) & _images.c.showing.in_(seen)
    if since is not None:
        theirs &= _jobs.c.created_at >= since
    columns = select(_images.c.job_id, _images.c["index"].label("number"), _images.c.sha256)
    joined = columns.join(_jobs, _jobs.c.id == _images.c.job_id).where(theirs)
    rows = await connection.execute(joined.order_by(_images.c.job_id, _images.c["index"]))
    return [(f"pictures/job-{row.job_id}-{row.number + 1}.png", row.sha256) for row in rows]
