"""The profiles that devices were calibrated with."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Makes the table."""
    name = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
    op.create_table(
        "calibration",
        sa.Column("device", name, nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("profile_hash", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("device", name="pk_calibration"),
        sa.ForeignKeyConstraint(
            ["device"], ["device.name"], "fk_calibration_device", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["profile_hash"], ["profile.hash"], "fk_calibration_profile_hash"),
    )
    op.create_index("ix_calibration_profile_hash", "calibration", ["profile_hash"])


def downgrade() -> None:
    """Drops the table."""
    op.drop_table("calibration")
