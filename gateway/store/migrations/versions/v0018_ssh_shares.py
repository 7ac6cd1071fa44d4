"""By which protocols Shares are offered, host keys that were accepted, and a key pair for each user.

Revision ID: 0018
"""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    op.add_column("sent_shares", sa.Column("protocols", sa.JSON(), nullable=True))
    op.add_column("sent_shares", sa.Column("offered_protocols", sa.JSON(), nullable=True))
    webdav = sa.Column("protocols", sa.JSON(), nullable=False, server_default='["webdav"]')
    op.add_column("received_shares", webdav)
    op.add_column("received_shares", sa.Column("ssh_uri", sa.String(), nullable=True))
    op.add_column("received_shares", sa.Column("host_key", sa.String(), nullable=True))
    op.create_table(
        "key_pairs",
        sa.Column("user", sa.String(), nullable=False),
        sa.Column("public", sa.String(), nullable=False),
        sa.Column("private_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["user"], ["users.name"], name=op.f("fk_key_pairs_user")),
        sa.PrimaryKeyConstraint("user", name=op.f("pk_key_pairs")),
    )
