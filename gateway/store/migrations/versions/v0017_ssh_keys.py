"""SSH keys of users and of the receivers of sent Shares, and the name that a Share is logged into by.

Revision ID: 0017
"""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    op.create_table(
        "user_keys",
        sa.Column("user", sa.String(), nullable=False),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("blob", sa.LargeBinary(), nullable=False),
        sa.Column("comment", sa.String(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["user"], ["users.name"], name=op.f("fk_user_keys_user")),
        sa.PrimaryKeyConstraint("user", "fingerprint", name=op.f("pk_user_keys")),
    )
    op.create_table(
        "share_keys",
        sa.Column("share", sa.String(), nullable=False),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("blob", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["share"], ["sent_shares.id"], name=op.f("fk_share_keys_share")),
        sa.PrimaryKeyConstraint("share", "fingerprint", name=op.f("pk_share_keys")),
    )
    op.add_column("sent_shares", sa.Column("ssh_login", sa.String(), nullable=True))
    op.create_index("ix_sent_shares_ssh_login", "sent_shares", ["ssh_login"], unique=True)
