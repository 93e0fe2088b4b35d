"""The releases of ExecuTorch that a plan is for."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Adds the column; plans that are there already do not say."""
    op.add_column("plan", sa.Column("runtime", sa.String(16), nullable=False, server_default=""))


def downgrade() -> None:
    """Drops the column."""
    op.drop_column("plan", "runtime")
