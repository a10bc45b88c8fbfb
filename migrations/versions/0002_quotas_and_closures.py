"""What jobs are charged, how long they take, and queues that moderators closed; a user's weight comes with each job."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# Columns are added and dropped in place: in batch mode SQLite would make the tables anew and forget AUTOINCREMENT.


def upgrade() -> None:
    op.drop_column("users", "weight")
    op.add_column("jobs", sa.Column("size", sa.Integer()))
    op.add_column("jobs", sa.Column("steps", sa.Integer()))
    measured = sa.text("seconds IS NOT NULL")
    op.create_index("ix_jobs_measured", "jobs", ["id"], sqlite_where=measured, postgresql_where=measured)
    op.create_table(
        "charges",
        sa.Column("job_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("guild_id", sa.BigInteger()),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", name="pk_charges"),
    )
    op.create_index("ix_charges_user_id", "charges", ["user_id", "day"])
    op.create_index("ix_charges_guild_id", "charges", ["guild_id", "day"])
    op.create_table(
        "closures",
        sa.Column("guild_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("closure", sa.String(20), nullable=False),
        sa.PrimaryKeyConstraint("guild_id", name="pk_closures"),
    )


def downgrade() -> None:
    op.drop_table("closures")
    op.drop_table("charges")
    op.drop_index("ix_jobs_measured", "jobs")
    op.drop_column("jobs", "steps")
    op.drop_column("jobs", "size")
    op.add_column("users", sa.Column("weight", sa.Float(), server_default=sa.text("1"), nullable=False))
