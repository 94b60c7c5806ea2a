"""The budget ledger."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "budget_releases",
        sa.Column("job", sa.String(64), primary_key=True),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("reserved", sa.BigInteger, nullable=False),
        sa.Column("settled", sa.BigInteger),
        sa.Column("inputs", sa.String(64)),
        sa.Column("payload", sa.LargeBinary),
        sa.CheckConstraint(
            "(state = 'debited') = (payload IS NOT NULL) AND (state = 'debited') = (inputs IS NOT NULL)",
            name="paid",
        ),
        sa.CheckConstraint("state IN ('reserved', 'debited', 'lapsed')", name="state"),
    )
    op.create_table(
        "budget_charges",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("job", sa.String(64), sa.ForeignKey("budget_releases.job"), nullable=False),
        sa.Column("agreement", sa.String(63), nullable=False),
        sa.Column("dataset", sa.String(63), nullable=False),
        sa.Column("period", sa.BigInteger, nullable=False),
        sa.Column("until", sa.BigInteger),
        sa.Column("epsilon", sa.Double, nullable=False),
        sa.Column("delta", sa.Double, nullable=False),
        sa.Column("loss", sa.Text, nullable=False),
        sa.UniqueConstraint("job", "dataset"),
    )
    op.create_index("budget", "budget_charges", ["agreement", "dataset", "period"])


def downgrade() -> None:
    for table in ("budget_charges", "budget_releases"):
        op.drop_table(table)
