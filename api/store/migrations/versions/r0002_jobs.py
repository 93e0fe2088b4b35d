"""Jobs, their items and tasks, and the executors that do them."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_SHA256 = sa.String(64)
_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Makes the tables."""
    op.create_table(
        "job",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created", _TIME, nullable=False),
        sa.Column("cancelled", _TIME),
        sa.Column("request", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_job"),
    )
    op.create_table(
        "task",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("input_name", sa.Text(), nullable=False),
        sa.Column("input_sha256", _SHA256, nullable=False),
        sa.Column("profile_hash", _SHA256),
        sa.Column("options", sa.Text(), nullable=False),
        sa.Column("needs", sa.String(64)),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("error", sa.Text()),
        sa.Column("executor_id", sa.Text()),
        sa.Column("output_sha256", _SHA256),
        sa.Column("queued", _TIME),
        sa.Column("started", _TIME),
        sa.Column("finished", _TIME),
        sa.PrimaryKeyConstraint("id", name="pk_task"),
        sa.ForeignKeyConstraint(["input_sha256"], ["blob.sha256"], name="fk_task_input_sha256"),
        sa.ForeignKeyConstraint(["profile_hash"], ["profile.hash"], name="fk_task_profile_hash"),
        sa.ForeignKeyConstraint(["needs"], ["task.id"], name="fk_task_needs"),
        sa.ForeignKeyConstraint(["output_sha256"], ["blob.sha256"], name="fk_task_output_sha256"),
    )
    op.create_table(
        "item",
        sa.Column("job_id", sa.String(32), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("input_name", sa.Text(), nullable=False),
        sa.Column("task_id", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "number", name="pk_item"),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name="fk_item_job_id"),
        sa.ForeignKeyConstraint(["task_id"], ["task.id"], name="fk_item_task_id"),
    )
    op.create_table(
        "executor",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("started", _TIME, nullable=False),
        sa.Column("beat", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_executor"),
    )
    for table, *columns in (
        ("job", "created", "id"),
        ("task", "state", "queued"),
        ("task", "input_sha256"),
        ("task", "profile_hash"),
        ("task", "needs"),
        ("task", "output_sha256"),
        ("item", "task_id"),
    ):
        op.create_index(f"ix_{table}_{'_'.join(columns)}", table, columns)


def downgrade() -> None:
    """Drops the tables."""
    for table in ("executor", "item", "task", "job"):
        op.drop_table(table)
