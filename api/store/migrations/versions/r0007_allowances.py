"""What each token may ask for, and who has put which blobs."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

_ALLOWANCES = ("requests_per_minute", "running_plans", "stored_bytes", "upload_bytes_per_hour")


def upgrade() -> None:
    """Makes the tables and columns; what is there already is nobody's."""
    op.create_table(
        "account",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("most_bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_account"),
    )
    op.create_table(
        "charge",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("account", "sha256", name="pk_charge"),
        sa.ForeignKeyConstraint(["account"], ["account.name"], name="fk_charge_account"),
    )
    op.create_index("ix_charge_sha256", "charge", ["sha256"])
    op.add_column("job", sa.Column("account", sa.Text()))
    for name in _ALLOWANCES:
        op.add_column("token", sa.Column(name, sa.BigInteger()))


def downgrade() -> None:
    """Drops them."""
    for name in reversed(_ALLOWANCES):
        op.drop_column("token", name)
    op.drop_column("job", "account")
    op.drop_table("charge")
    op.drop_table("account")
