"""Blobs, profiles and plans."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_SHA256 = sa.String(64)
_INDEXES = (
    ("created", "id"),
    ("folded_name", "created", "id"),
    ("graph_sha256",),
    ("objective_cost", "id"),
    ("profile_hash",),
    ("profile_name", "created", "id"),
    ("program_sha256",),
    ("ratio", "id"),
    ("repack_cost", "id"),
    ("report_sha256",),
    ("saved_cost", "id"),
    ("source_sha256",),
)


def upgrade() -> None:
    """Makes the tables."""
    op.create_table(
        "blob",
        sa.Column("sha256", _SHA256, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("sha256", name="pk_blob"),
    )
    op.create_table(
        "blob_home",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("identity", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_blob_home"),
    )
    op.create_table(
        "profile",
        sa.Column("hash", _SHA256, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("hash", name="pk_profile"),
    )
    op.create_table(
        "plan",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("planner_version", sa.Text(), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("source_name", sa.Text(), nullable=False),
        sa.Column(
            "folded_name",
            sa.Text().with_variant(sa.Text(collation="C"), "postgresql"),
            nullable=False,
        ),
        sa.Column("source_sha256", _SHA256, nullable=False),
        sa.Column("profile_name", sa.Text(), nullable=False),
        sa.Column("profile_hash", _SHA256, nullable=False),
        sa.Column("costs_name", sa.Text(), nullable=False),
        sa.Column("costs_hash", _SHA256, nullable=False),
        sa.Column("objective", sa.String(16), nullable=False),
        sa.Column("texture_limits", sa.Text(), nullable=False),
        sa.Column("buffer_limit", sa.BigInteger(), nullable=True),
        sa.Column("excluded_layouts", sa.Text(), nullable=False),
        sa.Column("unit", sa.String(8), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("bound", sa.Double(), nullable=False),
        sa.Column("repack_cost", sa.Double(), nullable=False),
        sa.Column("baseline_repack_cost", sa.Double(), nullable=False),
        sa.Column("saved_cost", sa.Double(), nullable=False),
        sa.Column("ratio", sa.Double(), nullable=False),
        sa.Column("objective_cost", sa.Double(), nullable=False),
        sa.Column("baseline_objective_cost", sa.Double(), nullable=False),
        sa.Column("objective_ratio", sa.Double(), nullable=False),
        sa.Column("transitions", sa.Integer(), nullable=False),
        sa.Column("baseline_transitions", sa.Integer(), nullable=False),
        sa.Column("operators", sa.Integer(), nullable=False),
        sa.Column("delegates", sa.Integer(), nullable=False),
        sa.Column("plan_seconds", sa.Double(), nullable=False),
        sa.Column("report_sha256", _SHA256, nullable=False),
        sa.Column("graph_sha256", _SHA256, nullable=False),
        sa.Column("program_sha256", _SHA256, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_plan"),
        sa.ForeignKeyConstraint(["profile_hash"], ["profile.hash"], name="fk_plan_profile_hash"),
        *(
            sa.ForeignKeyConstraint([f"{file}_sha256"], ["blob.sha256"], f"fk_plan_{file}_sha256")
            for file in ("source", "report", "graph", "program")
        ),
    )
    for columns in _INDEXES:
        op.create_index(f"ix_plan_{'_'.join(columns)}", "plan", columns)


def downgrade() -> None:
    """Drops the tables."""
    for table in ("plan", "profile", "blob_home", "blob"):
        op.drop_table(table)
