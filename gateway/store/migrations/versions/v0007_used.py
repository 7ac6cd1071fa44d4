"""When a Share was last opened.

Revision ID: 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.add_column("sent_shares", sa.Column("used", sa.BigInteger(), nullable=True))
