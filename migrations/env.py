"""Runs migrations on the connection of `Database.upgrade` or, from the command line, on that of the settings."""

from __future__ import annotations

import asyncio

from alembic import context
from sqlalchemy import Connection

from bot.settings import Settings
from bot.storage.session import Database, database_url
from bot.storage.tables import metadata


def migrate(connection: Connection) -> None:
    # Batch mode, because SQLite alters a table by making it anew.
    context.configure(connection=connection, target_metadata=metadata, render_as_batch=True, compare_type=True)
    with context.begin_transaction():
        context.run_migrations()


async def migrate_from_settings() -> None:
    async with Database(database_url(Settings())).altering() as connection:
        await connection.run_sync(migrate)


given: Connection | None = context.config.attributes.get("connection")
if given is not None:
    migrate(given)
else:
    asyncio.run(migrate_from_settings())
