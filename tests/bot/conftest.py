"""A database for each test: a SQLite file, or one on a PostgreSQL server that the tests start."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bot.databases import PostgresServer


@pytest.fixture
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """SQLite, unless the test says EITHER_DATABASE."""
    if getattr(request, "param", "sqlite") == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path / 'imagine.db'}"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.emptied_database()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    if not installed:
        # In CI the same is a failure, see tests/conftest.py: there nothing is skipped for want of a tool.
        pytest.skip("PostgreSQL's server is not installed")
    server = PostgresServer(installed[-1])
    try:
        server.start()
        yield server
    finally:
        server.stop()
