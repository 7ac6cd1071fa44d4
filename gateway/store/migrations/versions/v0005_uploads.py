"""Uploads that were left unfinished, to be resumed.

Revision ID: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "uploads",
        sa.Column("token", sa.String(), nullable=False),
        sa.Column("principal", sa.String(), nullable=False),
        sa.Column("backend", sa.String(), nullable=False),
        sa.Column("path", sa.LargeBinary(), nullable=False),
        sa.Column("total", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("device", sa.BigInteger(), nullable=True),
        sa.Column("inode", sa.BigInteger(), nullable=True),
        sa.Column("expires", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("token", name=op.f("pk_uploads")),
        sa.UniqueConstraint(
            "principal", "backend", "path", "total", name=op.f("uq_uploads_principal_backend_path_total")
        ),
    )
    op.create_index("ix_uploads_backend_path", "uploads", ["backend", "path"], unique=False)
