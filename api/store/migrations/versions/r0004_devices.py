"""Devices, what was measured on them, and plans that are for one."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_SHA256 = sa.String(64)
_TIME = sa.DateTime(timezone=True)
_SORTED = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_INDEXES = (
    ("device", "file_sha256"),
    ("device_run", "device", "created", "id"),
    ("device_run", "etdump_sha256"),
    ("device_run", "program_sha256"),
    ("device_run", "run_sha256"),
    ("device_fit", "fit_sha256"),
    ("tuning", "device", "created", "id"),
    ("plan", "device", "created", "id"),
    ("task", "device_sha256"),
)


def upgrade() -> None:
    """Makes the tables and columns; plans that are there already are for no device."""
    op.create_table(
        "device",
        sa.Column("name", _SORTED, nullable=False),
        sa.Column("created", _TIME, nullable=False),
        sa.Column("driver", sa.Text(), nullable=False),
        sa.Column("gpu", sa.Text()),
        sa.Column("texture_limits", sa.Text()),
        sa.Column("buffer_limit", sa.BigInteger()),
        sa.Column("avoid", sa.Text(), nullable=False),
        sa.Column("changes", sa.Integer(), nullable=False),
        sa.Column("file_sha256", _SHA256),
        sa.PrimaryKeyConstraint("name", name="pk_device"),
        sa.ForeignKeyConstraint(["file_sha256"], ["blob.sha256"], name="fk_device_file_sha256"),
    )
    op.create_table(
        "device_run",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("device", _SORTED, nullable=False),
        sa.Column("created", _TIME, nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("program_name", sa.Text(), nullable=False),
        sa.Column("etdump_sha256", _SHA256, nullable=False),
        sa.Column("program_sha256", _SHA256, nullable=False),
        sa.Column("run_sha256", _SHA256, nullable=False),
        sa.Column("total_ns", sa.Double(), nullable=False),
        sa.Column("joined_ns", sa.Double(), nullable=False),
        sa.Column("samples", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_device_run"),
        sa.ForeignKeyConstraint(
            ["device"], ["device.name"], name="fk_device_run_device", ondelete="CASCADE"
        ),
        *(
            sa.ForeignKeyConstraint([column], ["blob.sha256"], name=f"fk_device_run_{column}")
            for column in ("etdump_sha256", "program_sha256", "run_sha256")
        ),
    )
    op.create_table(
        "device_fit",
        sa.Column("file_sha256", _SHA256, nullable=False),
        sa.Column("planner", sa.Text(), nullable=False),
        sa.Column("fit_sha256", _SHA256, nullable=False),
        sa.PrimaryKeyConstraint("file_sha256", "planner", name="pk_device_fit"),
        sa.ForeignKeyConstraint(["fit_sha256"], ["blob.sha256"], name="fk_device_fit_fit_sha256"),
    )
    op.create_table(
        "tuning",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("device", _SORTED, nullable=False),
        sa.Column("created", _TIME, nullable=False),
        sa.Column("updated", _TIME, nullable=False),
        sa.Column("program_name", sa.Text(), nullable=False),
        sa.Column("ended", sa.Text()),
        sa.Column("document", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_tuning"),
        sa.ForeignKeyConstraint(
            ["device"], ["device.name"], name="fk_tuning_device", ondelete="CASCADE"
        ),
    )
    op.add_column("plan", sa.Column("device", _SORTED))
    # SQLite could add the key only to a copy of the table, and may not drop one with rows in it.
    op.execute(
        "ALTER TABLE task ADD COLUMN device_sha256 VARCHAR(64) "
        "CONSTRAINT fk_task_device_sha256 REFERENCES blob (sha256)"
    )
    for table, *columns in _INDEXES:
        op.create_index(f"ix_{table}_{'_'.join(columns)}", table, columns)


def downgrade() -> None:
    """Drops them."""
    for table, *columns in reversed(_INDEXES):
        op.drop_index(f"ix_{table}_{'_'.join(columns)}", table)
    op.drop_column("task", "device_sha256")
    op.drop_column("plan", "device")
    for table in ("tuning", "device_fit", "device_run", "device"):
        op.drop_table(table)
