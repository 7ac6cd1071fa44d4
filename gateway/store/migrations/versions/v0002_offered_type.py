"""What a peer was told that a Share is.

Revision ID: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("sent_shares", sa.Column("offered_type", sa.String(), nullable=True))
