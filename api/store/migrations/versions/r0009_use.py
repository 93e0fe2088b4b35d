"""When plans were last asked for, with which options, and when bytes were handed in for jobs."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Adds the columns; of what is there already they say nothing."""
    op.add_column("blob", sa.Column("handed_in", _TIME))
    op.add_column("plan", sa.Column("used", _TIME))
    op.add_column("plan", sa.Column("options", sa.Text()))


def downgrade() -> None:
    """Drops the columns."""
    op.drop_column("plan", "options")
    op.drop_column("plan", "used")
    op.drop_column("blob", "handed_in")
