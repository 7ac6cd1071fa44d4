"""Locks and dead properties.

Revision ID: 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "locks",
        sa.Column("token", sa.String(), nullable=False),
        sa.Column("backend", sa.String(), nullable=False),
        sa.Column("path", sa.LargeBinary(), nullable=False),
        sa.Column("exclusive", sa.Boolean(), nullable=False),
        sa.Column("deep", sa.Boolean(), nullable=False),
        sa.Column("principal", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), nullable=True),
        sa.Column("expires", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("token", name=op.f("pk_locks")),
    )
    op.create_index("ix_locks_backend_path", "locks", ["backend", "path"], unique=False)
    op.create_index("ix_locks_principal", "locks", ["principal"], unique=False)
    op.create_index("ix_locks_expires", "locks", ["expires"], unique=False)
    op.create_table(
        "properties",
        sa.Column("backend", sa.String(), nullable=False),
        sa.Column("path", sa.LargeBinary(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("value", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("backend", "path", "name", name=op.f("pk_properties")),
    )
