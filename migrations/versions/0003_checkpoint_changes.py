"""Checkpoints for a while, allow-lists of servers, and what was done about checkpoints."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("guilds", sa.Column("temporary_checkpoint", sa.String(100)))
    op.add_column("guilds", sa.Column("temporary_until", sa.DateTime(timezone=True)))
    op.create_table(
        "allowed_checkpoints",
        sa.Column("guild_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("checkpoint", sa.String(100), nullable=False),
        sa.PrimaryKeyConstraint("guild_id", "checkpoint", name="pk_allowed_checkpoints"),
    )
    op.create_table(
        "checkpoint_changes",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("guild_id", sa.BigInteger(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("channel_id", sa.BigInteger(), nullable=False),
        sa.Column("message_id", sa.BigInteger()),
        sa.Column("interaction_token", sa.Text(), nullable=False),
        sa.Column("checkpoint", sa.String(100)),
        sa.Column("previous", sa.String(100)),
        sa.Column("until", sa.DateTime(timezone=True)),
        sa.Column("error", sa.Text()),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
        sa.Column("shown_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("id", name="pk_checkpoint_changes"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_checkpoint_changes_guild_id", "checkpoint_changes", ["guild_id", "id"])
    op.create_table(
        "checkpoint_measures",
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("memory", sa.BigInteger()),
        sa.Column("measured_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("sha256", name="pk_checkpoint_measures"),
    )


def downgrade() -> None:
    op.drop_table("checkpoint_measures")
    op.drop_index("ix_checkpoint_changes_guild_id", "checkpoint_changes")
    op.drop_table("checkpoint_changes")
    op.drop_table("allowed_checkpoints")
    op.drop_column("guilds", "temporary_until")
    op.drop_column("guilds", "temporary_checkpoint")
