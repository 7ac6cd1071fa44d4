"""Replacements on their way, and which process works on them and on moves.

Revision ID: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("moves", sa.Column("process", sa.String(), nullable=True))
    op.create_table(
        "replacements",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("backend", sa.String(), nullable=False),
        sa.Column("target", sa.LargeBinary(), nullable=False),
        sa.Column("aside", sa.LargeBinary(), nullable=False),
        sa.Column("arriving", sa.LargeBinary(), nullable=False),
        sa.Column("is_copy", sa.Boolean(), nullable=False),
        sa.Column("device", sa.BigInteger(), nullable=True),
        sa.Column("inode", sa.BigInteger(), nullable=True),
        sa.Column("process", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_replacements")),
    )
