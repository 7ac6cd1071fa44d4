"""What has worked with a peer, and the body in which a Share was offered to it.

Revision ID: 0013
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    op.add_column("sent_shares", sa.Column("offered_form", sa.String(), nullable=True))
    for name in ("product", "body", "way_in", "signature"):
        op.add_column("peers", sa.Column(name, sa.String(), nullable=True))
