"""Moderation: what a server set, cases and their decisions, restrictions, notices, and the audit log."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

serial = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
moment = sa.DateTime(timezone=True)

JOB_INDEXES = (
    ("ix_jobs_held_by_user", "user_id", "state = 'held'"),
    ("ix_jobs_parent_id", "parent_id", "parent_id IS NOT NULL"),
)
REFUSE = {
    "sqlite": [
        f"CREATE TRIGGER audit_refuses_{deed} BEFORE {deed.upper()} ON audit "
        "BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END"
        for deed in ("update", "delete")
    ],
    "postgresql": [
        "CREATE FUNCTION audit_refuses() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'the audit log is append-only'; END $$",
        "CREATE TRIGGER audit_refuses_changes BEFORE UPDATE OR DELETE OR TRUNCATE ON audit "
        "FOR EACH STATEMENT EXECUTE FUNCTION audit_refuses()",
    ],
}


def upgrade() -> None:
    op.add_column("jobs", sa.Column("revision", sa.Integer(), server_default=sa.text("0"), nullable=False))
    for name, column, where in JOB_INDEXES:
        condition = sa.text(where)
        op.create_index(name, "jobs", [column], sqlite_where=condition, postgresql_where=condition)
    op.add_column("jobs", sa.Column("file_limit", sa.BigInteger()))
    op.add_column("images", sa.Column("showing", sa.String(20), server_default=sa.text("'plain'"), nullable=False))
    op.add_column("images", sa.Column("note", sa.Text()))
    op.add_column("images", sa.Column("score", sa.Float()))
    op.add_column("images", sa.Column("phash", sa.String(16)))
    op.create_table(
        "moderation",
        sa.Column("guild_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("review_channel_id", sa.BigInteger()),
        sa.Column("hide_after_reports", sa.Integer()),
        sa.Column("spoiler_at", sa.Float()),
        sa.Column("hold_at", sa.Float()),
        sa.Column("block_at", sa.Float()),
        sa.Column("unjudged_accepted", sa.Text()),
        sa.Column("retention_days", sa.Integer()),
        sa.Column("terms", sa.Text()),
        sa.Column("terms_version", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("guild_id", name="pk_moderation"),
    )
    op.create_table(
        "moderator_roles",
        sa.Column("guild_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("role_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("guild_id", "role_id", name="pk_moderator_roles"),
    )
    op.create_table(
        "terms_accepted",
        sa.Column("guild_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("user_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("accepted_at", moment, nullable=False),
        sa.PrimaryKeyConstraint("guild_id", "user_id", name="pk_terms_accepted"),
    )
    op.create_table(
        "prompt_rules",
        sa.Column("id", serial, nullable=False),
        sa.Column("guild_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("pattern", sa.Text(), nullable=False),
        sa.Column("action", sa.String(20), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("created_at", moment, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_prompt_rules"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_prompt_rules_guild_id", "prompt_rules", ["guild_id"])
    op.create_table(
        "cases",
        sa.Column("id", serial, nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("guild_id", sa.BigInteger(), nullable=False),
        sa.Column("job_id", serial),
        sa.Column("index", sa.Integer()),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("score", sa.Float()),
        sa.Column("appeal_of", serial),
        sa.Column("opened_at", moment, nullable=False),
        sa.Column("decision", sa.String(20)),
        sa.Column("decided_by", sa.BigInteger()),
        sa.Column("decided_at", moment),
        sa.Column("note", sa.Text()),
        sa.Column("channel_id", sa.BigInteger()),
        sa.Column("posting_at", moment),
        sa.Column("message_id", sa.BigInteger()),
        sa.Column("shown_at", moment),
        sa.Column("revision", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("before", sa.Text()),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_cases_job_id", ondelete="SET NULL"),
        sa.ForeignKeyConstraint(["appeal_of"], ["cases.id"], name="fk_cases_appeal_of"),
        sa.PrimaryKeyConstraint("id", name="pk_cases"),
        sa.UniqueConstraint("appeal_of", name="uq_cases_appeal_of"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "reports",
        sa.Column("case_id", serial, nullable=False),
        sa.Column("user_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("reported_at", moment, nullable=False),
        sa.ForeignKeyConstraint(["case_id"], ["cases.id"], name="fk_reports_case_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("case_id", "user_id", name="pk_reports"),
    )
    op.create_table(
        "restrictions",
        sa.Column("guild_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("user_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("until", moment),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("case_id", sa.BigInteger()),
        sa.Column("created_at", moment, nullable=False),
        sa.PrimaryKeyConstraint("guild_id", "user_id", name="pk_restrictions"),
    )
    op.create_table(
        "removed_hashes",
        sa.Column("case_id", serial, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("guild_id", sa.BigInteger(), nullable=False),
        sa.Column("phash", sa.String(16), nullable=False),
        sa.ForeignKeyConstraint(["case_id"], ["cases.id"], name="fk_removed_hashes_case_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("case_id", "number", name="pk_removed_hashes"),
    )
    op.create_index("ix_removed_hashes_guild_id", "removed_hashes", ["guild_id"])
    op.create_table(
        "notices",
        sa.Column("id", serial, nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("case_id", serial),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("created_at", moment, nullable=False),
        sa.Column("sent_at", moment),
        sa.ForeignKeyConstraint(["case_id"], ["cases.id"], name="fk_notices_case_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_notices"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "erasures",
        sa.Column("user_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("asked_at", moment, nullable=False),
        sa.PrimaryKeyConstraint("user_id", name="pk_erasures"),
    )
    op.create_table(
        "deletions",
        sa.Column("message_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("channel_id", sa.BigInteger(), nullable=False),
        sa.Column("asked_at", moment, nullable=False),
        sa.PrimaryKeyConstraint("message_id", name="pk_deletions"),
    )
    op.create_table(
        "pseudonyms",
        sa.Column("user_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("pseudonym", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("user_id", name="pk_pseudonyms"),
        sa.UniqueConstraint("pseudonym", name="uq_pseudonyms_pseudonym"),
    )
    op.create_table(
        "audit",
        sa.Column("id", serial, nullable=False),
        sa.Column("at", moment, nullable=False),
        sa.Column("guild_id", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.String(32), nullable=False),
        sa.Column("act", sa.String(50), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("before", sa.Text()),
        sa.Column("after", sa.Text()),
        sa.Column("previous_hash", sa.String(64), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
        sa.UniqueConstraint("hash", name="uq_audit_hash"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_cases_job_id", "cases", ["job_id"])
    op.create_index("ix_cases_guild_id", "cases", ["guild_id", "id"])
    op.create_index("ix_audit_guild_id", "audit", ["guild_id", "id"])
    for table, column in (("cases", "shown_at"), ("notices", "sent_at")):
        name, unfinished = f"ix_{table}_un{column.removesuffix('_at')}", sa.text(f"{column} IS NULL")
        op.create_index(name, table, ["id"], sqlite_where=unfinished, postgresql_where=unfinished)
    for statement in REFUSE[op.get_bind().dialect.name]:
        op.execute(statement)


def downgrade() -> None:
    op.drop_table("audit")
    op.drop_table("pseudonyms")
    op.drop_table("deletions")
    op.drop_table("erasures")
    op.drop_table("notices")
    op.drop_table("removed_hashes")
    op.drop_table("restrictions")
    op.drop_table("reports")
    op.drop_table("cases")
    op.drop_table("prompt_rules")
    op.drop_table("terms_accepted")
    op.drop_table("moderator_roles")
    op.drop_table("moderation")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION audit_refuses()")
    for column in ("phash", "score", "note", "showing"):
        op.drop_column("images", column)
    for name, _, _ in JOB_INDEXES:
        op.drop_index(name, "jobs")
    op.drop_column("jobs", "revision")
