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
from sqlalchemy.types import TypeEngine

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


def _serial() -> TypeEngine[int]:
    """SQLite numbers rows by itself for INTEGER only."""
    return BigInteger().with_variant(Integer, "sqlite")


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
    Column("file_limit", BigInteger),  # bytes of a file that Discord takes in answer to the interaction
    Column("parent_id", BigInteger().with_variant(Integer, "sqlite"), ForeignKey("jobs.id", ondelete="SET NULL")),
    Column("parent_index", Integer),
    Column("created_at", UtcDateTime, nullable=False),
    Column("started_at", UtcDateTime),
    Column("finished_at", UtcDateTime),
    Column("shown_at", UtcDateTime),
    Column("revision", Integer, nullable=False, server_default=text("0")),  # of what its message is to show
    Column("error", Text),
    Column("seconds", Float),
    sqlite_autoincrement=True,  # buttons name jobs by id, so an id is never used again
)


def _partial(name: str, *columns: str, where: str) -> Index:
    return Index(name, *(jobs.c[c] for c in columns), sqlite_where=text(where), postgresql_where=text(where))


_partial("ix_jobs_ready", "tag", "id", where="state = 'queued'")
_partial("ix_jobs_waiting_by_user", "user_id", where="state = 'queued'")
_partial("ix_jobs_held_by_user", "user_id", where="state = 'held'")
_partial("ix_jobs_running_by_user", "user_id", where="state = 'running'")
_partial("ix_jobs_served", "tag", where="attempt > 0")
_partial("ix_jobs_unshown", "id", where="finished_at IS NOT NULL AND shown_at IS NULL")
_partial("ix_jobs_measured", "id", where="seconds IS NOT NULL")
_partial("ix_jobs_parent_id", "parent_id", where="parent_id IS NOT NULL")

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
    Column("showing", String(20), nullable=False, server_default=text("'plain'")),  # bot.jobs.model.Showing
    Column("note", Text),  # why it is not shown, or not as it is
    Column("score", Float),  # how explicit the classifier finds it, 0 to 1; NULL where nobody judged it
    Column("phash", String(16)),  # perceptual hash, 64 bits in hex
)

# --- moderation ---------------------------------------------------------------------------------------------------

# What a server's managers set; the defaults of bot.moderation.policy, where it has no row or a column is NULL.
moderation = Table(
    "moderation",
    metadata,
    Column("guild_id", BigInteger, primary_key=True, autoincrement=False),
    Column("review_channel_id", BigInteger),
    Column("hide_after_reports", Integer),  # people who reported a picture until it is hidden pending review
    Column("spoiler_at", Float),  # scores from which pictures are spoilered, held and blocked outside age-restricted
    Column("hold_at", Float),  # channels
    Column("block_at", Float),
    Column("unjudged_accepted", Text),  # the words in which a manager accepted pictures that nothing judged
    Column("retention_days", Integer),
    Column("terms", Text),
    Column("terms_version", Integer, nullable=False, server_default=text("0")),
)

moderator_roles = Table(
    "moderator_roles",
    metadata,
    Column("guild_id", BigInteger, primary_key=True, autoincrement=False),
    Column("role_id", BigInteger, primary_key=True, autoincrement=False),
)

terms_accepted = Table(
    "terms_accepted",
    metadata,
    Column("guild_id", BigInteger, primary_key=True, autoincrement=False),
    Column("user_id", BigInteger, primary_key=True, autoincrement=False),
    Column("version", Integer, nullable=False),
    Column("accepted_at", UtcDateTime, nullable=False),
)

prompt_rules = Table(
    "prompt_rules",
    metadata,
    Column("id", _serial(), primary_key=True),
    Column("guild_id", BigInteger, nullable=False, index=True),
    Column("kind", String(20), nullable=False),  # literal, regex
    Column("pattern", Text, nullable=False),
    Column("action", String(20), nullable=False),  # block, hold, warn
    Column("reason", Text),  # what the author of a prompt is told
    Column("created_at", UtcDateTime, nullable=False),
    sqlite_autoincrement=True,
)

# Something a moderator decides once: a prompt or a picture that was held, a report, an appeal.
cases = Table(
    "cases",
    metadata,
    Column("id", _serial(), primary_key=True),
    Column("kind", String(20), nullable=False),
    Column("state", String(20), nullable=False),
    Column("guild_id", BigInteger, nullable=False),
    Column("job_id", BigInteger().with_variant(Integer, "sqlite"), ForeignKey("jobs.id", ondelete="SET NULL")),
    Column("index", Integer),  # of the picture; NULL for the whole job
    Column("user_id", BigInteger, nullable=False),  # whose job it is
    Column("reason", Text, nullable=False),
    Column("score", Float),
    Column("appeal_of", BigInteger().with_variant(Integer, "sqlite"), ForeignKey("cases.id"), unique=True),
    Column("opened_at", UtcDateTime, nullable=False),
    Column("decision", String(20)),
    Column("decided_by", BigInteger),
    Column("decided_at", UtcDateTime),
    Column("note", Text),  # what the author is told
    Column("channel_id", BigInteger),  # where its message is, or is about to be
    Column("posting_at", UtcDateTime),  # since when its message may have been sent
    Column("message_id", BigInteger),
    Column("shown_at", UtcDateTime),  # when the message came to say how it stands; NULL when it must be edited
    Column("revision", Integer, nullable=False, server_default=text("0")),  # of what the message is to say
    Column("before", Text),  # how the pictures it hid or removed were shown until then: JSON, by index
    sqlite_autoincrement=True,  # buttons name cases by id
)
Index("ix_cases_job_id", cases.c.job_id)
Index("ix_cases_guild_id", cases.c.guild_id, cases.c.id)
Index(
    "ix_cases_unshown",
    cases.c.id,
    sqlite_where=text("shown_at IS NULL"),
    postgresql_where=text("shown_at IS NULL"),
)

reports = Table(
    "reports",
    metadata,
    Column("case_id", ForeignKey("cases.id", ondelete="CASCADE"), primary_key=True),
    Column("user_id", BigInteger, primary_key=True, autoincrement=False),
    Column("reason", Text, nullable=False),
    Column("reported_at", UtcDateTime, nullable=False),
)

# Who may not draw in a server, until when; for good where that is NULL.
restrictions = Table(
    "restrictions",
    metadata,
    Column("guild_id", BigInteger, primary_key=True, autoincrement=False),
    Column("user_id", BigInteger, primary_key=True, autoincrement=False),
    Column("until", UtcDateTime),
    Column("reason", Text, nullable=False),
    Column("case_id", BigInteger),
    Column("created_at", UtcDateTime, nullable=False),
)

# Perceptual hashes of pictures that a server's moderators removed, and of their mirrored and cropped selves.
removed_hashes = Table(
    "removed_hashes",
    metadata,
    Column("case_id", ForeignKey("cases.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("guild_id", BigInteger, nullable=False, index=True),
    Column("phash", String(16), nullable=False),
)

# Direct messages that people are owed.
notices = Table(
    "notices",
    metadata,
    Column("id", _serial(), primary_key=True),
    Column("user_id", BigInteger, nullable=False),
    Column("case_id", ForeignKey("cases.id", ondelete="CASCADE")),
    Column("content", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("sent_at", UtcDateTime),  # or given up
    sqlite_autoincrement=True,  # nonces are made of the id
)
Index(
    "ix_notices_unsent",
    notices.c.id,
    sqlite_where=text("sent_at IS NULL"),
    postgresql_where=text("sent_at IS NULL"),
)

# People who asked to be forgotten: everything of theirs is gone but the charges of that day, which hold until it ends.
erasures = Table(
    "erasures",
    metadata,
    Column("user_id", BigInteger, primary_key=True, autoincrement=False),
    Column("asked_at", UtcDateTime, nullable=False),
)

# Messages of jobs that were erased; a row goes once Discord has deleted its message, or never will.
deletions = Table(
    "deletions",
    metadata,
    Column("message_id", BigInteger, primary_key=True, autoincrement=False),
    Column("channel_id", BigInteger, nullable=False),
    Column("asked_at", UtcDateTime, nullable=False),
)

# The audit log names people by these; whoever is forgotten here is nobody there.
pseudonyms = Table(
    "pseudonyms",
    metadata,
    Column("user_id", BigInteger, primary_key=True, autoincrement=False),
    Column("pseudonym", String(32), nullable=False, unique=True),
)

# Append-only: triggers of the database refuse everything but INSERT, and every row holds the hash of the one before.
audit = Table(
    "audit",
    metadata,
    Column("id", _serial(), primary_key=True),
    Column("at", UtcDateTime, nullable=False),
    Column("guild_id", BigInteger, nullable=False),  # bot.jobs.closures.EVERYWHERE for what concerns all
    Column("actor", String(32), nullable=False),  # a pseudonym
    Column("act", String(50), nullable=False),
    Column("subject", Text, nullable=False),
    Column("before", Text),  # JSON
    Column("after", Text),
    Column("previous_hash", String(64), nullable=False),
    Column("hash", String(64), nullable=False, unique=True),
    sqlite_autoincrement=True,
)
Index("ix_audit_guild_id", audit.c.guild_id, audit.c.id)
