"""A database of its own for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from bot.storage.session import Database


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    await database.upgrade()
    yield database
    await database.close()
