"""The tables, once for SQLite and PostgreSQL. A change here needs a migration; a test compares the two."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import (
    BigInteger,
    Column,
    Date,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    text,
)

# Named constraints, because SQLite's batch migrations can only drop what has a name.
metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware datetime in UTC on both sides; SQLite itself keeps no time zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


users = Table(
    "users",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("tag", Float, nullable=False, server_default=text("0")),  # where the next job may start, see bot.jobs.queue
)

guilds = Table(
    "guilds",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("checkpoint", String(100)),
    Column("temporary_checkpoint", String(100)),  # used instead until then
    Column("temporary_until", UtcDateTime),
)

# What members of a server may draw with; everything, where it has no row.
allowed_checkpoints = Table(
    "allowed_checkpoints",
    metadata,
    Column("guild_id", BigInteger, primary_key=True, autoincrement=False),
    Column("checkpoint", String(100), primary_key=True),
)

# What was done about checkpoints, by whom: it shows after a crash what was left half-done, and where to go back to.
checkpoint_changes = Table(
    "checkpoint_changes",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("kind", String(20), nullable=False),
    Column("state", String(20), nullable=False),
    Column("guild_id", BigInteger, nullable=False),
    Column("user_id", BigInteger, nullable=False),
    Column("channel_id", BigInteger, nullable=False),
    Column("message_id", BigInteger),
    Column("interaction_token", Text, nullable=False),  # until the message is known
    Column("checkpoint", String(100)),  # NULL stands for the bot's own default
    Column("previous", String(100)),
    Column("until", UtcDateTime),
    Column("error", Text),
    Column("created_at", UtcDateTime, nullable=False),
    Column("finished_at", UtcDateTime),
    Column("shown_at", UtcDateTime),  # when the message came to say how it ended
    sqlite_autoincrement=True,  # buttons name changes by id
)
Index("ix_checkpoint_changes_guild_id", checkpoint_changes.c.guild_id, checkpoint_changes.c.id)

checkpoint_measures = Table(
    "checkpoint_measures",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("seconds", Float, nullable=False),  # for one picture with the checkpoint's own defaults
    Column("memory", BigInteger),  # bytes of weights on the device
    Column("measured_at", UtcDateTime, nullable=False),
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("name", String(100), primary_key=True),
    Column("info", Text, nullable=False),  # t2i.api.CheckpointInfo as JSON
    Column("seen_at", UtcDateTime, nullable=False),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("interaction_id", BigInteger, nullable=False, unique=True),
    Column("interaction_token", Text, nullable=False),
    Column("kind", String(20), nullable=False),
    Column("state", String(20), nullable=False),
    Column("attempt", Integer, nullable=False, server_default=text("0")),
    Column("crashes", Integer, nullable=False, server_default=text("0")),
    Column("options", Text, nullable=False),  # bot.prompt.options.JobOptions as JSON
    Column("checkpoint", String(100), nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("size", Integer),  # pixels of a side and steps with the checkpoint's defaults, where they are known
    Column("steps", Integer),
    Column("cost", Float, nullable=False),
    Column("tag", Float, nullable=False),
    Column("user_id", BigInteger, ForeignKey("users.id"), nullable=False),
    Column("channel_id", BigInteger, nullable=False),
    Column("guild_id", BigInteger),
    Column("message_id", BigInteger),
    Column("parent_id", BigInteger().with_variant(Integer, "sqlite"), ForeignKey("jobs.id", ondelete="SET NULL")),
    Column("parent_index", Integer),
    Column("created_at", UtcDateTime, nullable=False),
    Column("started_at", UtcDateTime),
    Column("finished_at", UtcDateTime),
    Column("shown_at", UtcDateTime),
    Column("error", Text),
    Column("seconds", Float),
    sqlite_autoincrement=True,  # buttons name jobs by id, so an id is never used again
)


def _partial(name: str, *columns: str, where: str) -> Index:
    return Index(name, *(jobs.c[c] for c in columns), sqlite_where=text(where), postgresql_where=text(where))


_partial("ix_jobs_ready", "tag", "id", where="state = 'queued'")
_partial("ix_jobs_waiting_by_user", "user_id", where="state = 'queued'")
_partial("ix_jobs_running_by_user", "user_id", where="state = 'running'")
_partial("ix_jobs_served", "tag", where="attempt > 0")
_partial("ix_jobs_unshown", "id", where="finished_at IS NOT NULL AND shown_at IS NULL")
_partial("ix_jobs_measured", "id", where="seconds IS NOT NULL")

# One row a job that counts against quotas. No foreign key: erasing a job gives nobody their quota back.
charges = Table(
    "charges",
    metadata,
    Column("job_id", BigInteger, primary_key=True, autoincrement=False),
    Column("user_id", BigInteger, nullable=False),
    Column("guild_id", BigInteger),
    Column("day", Date, nullable=False),
    Column("seconds", Float, nullable=False),  # an estimate until the job is rendered
)
Index("ix_charges_user_id", charges.c.user_id, charges.c.day)
Index("ix_charges_guild_id", charges.c.guild_id, charges.c.day)

closures = Table(
    "closures",
    metadata,
    Column("guild_id", BigInteger, primary_key=True, autoincrement=False),  # bot.jobs.closures.EVERYWHERE for all
    Column("closure", String(20), nullable=False),
)

images = Table(
    "images",
    metadata,
    Column("job_id", ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("index", Integer, primary_key=True),
    Column("seed", BigInteger, nullable=False),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("sha256", String(64), nullable=False, index=True),
    Column("latents_sha256", String(64), nullable=False, index=True),
)
