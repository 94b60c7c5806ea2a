"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "agreements",
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("id", sa.String(63), nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("document", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("id", "version"),
    )
    op.create_table(
        "jobs",
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("agreement", sa.String(64), sa.ForeignKey("agreements.digest"), nullable=False),
        sa.Column("document", sa.LargeBinary, nullable=False),
        sa.Column("seen", sa.BigInteger, nullable=False),
        sa.Column("pending", sa.Boolean, nullable=False),
        sa.Column("closed", sa.Boolean, nullable=False, index=True),
        sa.Column("result", sa.LargeBinary),
        sa.Column("salt", sa.String(64)),
    )
    op.create_table(
        "records",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("job", sa.String(64), sa.ForeignKey("jobs.digest"), nullable=False),
        sa.Column("member", sa.String(63), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("about", sa.String(63), nullable=False),
        sa.Column("record", sa.LargeBinary, nullable=False),
        sa.Column("signature", sa.String(100), nullable=False),
        sa.UniqueConstraint("job", "member", "kind", "about"),
    )
    op.create_table(
        "outbox",
        sa.Column("record", sa.Integer, sa.ForeignKey("records.number"), primary_key=True),
        sa.Column("peer", sa.String(64), primary_key=True),
    )


def downgrade() -> None:
    for table in ("outbox", "records", "jobs", "agreements"):
        op.drop_table(table)
