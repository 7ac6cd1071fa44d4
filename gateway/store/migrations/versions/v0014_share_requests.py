"""Requests for Shares, Shares that were made of others, users who are no more.

Revision ID: 0014
"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    op.create_table(
        "share_requests",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("direction", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("user", sa.String(), nullable=True),
        sa.Column("server", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("share_with", sa.String(), nullable=False),
        sa.Column("resource", sa.String(), nullable=False),
        sa.Column("share", sa.String(), nullable=True),
        sa.Column("permissions", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("granted", sa.String(), nullable=True),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("updated", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["user"], ["users.name"], name=op.f("fk_share_requests_user")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_share_requests")),
    )
    op.create_index("ix_share_requests_user", "share_requests", ["user"], unique=False)
    op.create_index("ix_share_requests_owner_state", "share_requests", ["owner", "state"], unique=False)
    op.create_index("ix_share_requests_server_state", "share_requests", ["server", "state"], unique=False)
    op.create_index("ix_share_requests_state_created", "share_requests", ["state", "created"], unique=False)
    op.add_column("users", sa.Column("removed", sa.BigInteger(), nullable=True))
    op.add_column("sent_shares", sa.Column("reshare", sa.String(), nullable=False, server_default="ask"))
    op.add_column("sent_shares", sa.Column("origin", sa.String(), nullable=True))
    op.create_index("ix_sent_shares_origin", "sent_shares", ["origin"], unique=False)
