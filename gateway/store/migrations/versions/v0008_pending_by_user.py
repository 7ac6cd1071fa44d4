"""An index that counts the Shares which wait for a user's answer.

Revision ID: 0008
"""

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.create_index(
        "ix_received_shares_user_state_server", "received_shares", ["user", "state", "server"], unique=False
    )
