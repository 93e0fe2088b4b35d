"""The secret that servers share which share no directory."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Makes the table; the first server draws the secret."""
    op.create_table(
        "server_secret",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("value", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_server_secret"),
    )


def downgrade() -> None:
    """Drops the table: pages that are open have to be loaded again."""
    op.drop_table("server_secret")
