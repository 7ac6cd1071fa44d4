"""Which kind of signature a peer has sent, its pinned key, its use of legacy ways, and the last proof that failed.

Revision ID: 0009
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.add_column("peers", sa.Column("signed_as", sa.String(), nullable=True))
    op.add_column("peers", sa.Column("pinned_key", sa.JSON(), nullable=True))
    op.add_column("peers", sa.Column("legacy_used", sa.JSON(), nullable=True))
    op.add_column("peers", sa.Column("refused", sa.JSON(), nullable=True))
    peers = sa.table("peers", sa.column("signs", sa.Boolean()), sa.column("signed_as", sa.String()))
    op.execute(sa.update(peers).where(peers.c.signs.is_(True)).values(signed_as="rfc9421"))
    op.drop_column("peers", "signs")
