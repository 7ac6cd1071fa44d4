"""The first schema.

Revision ID: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "backend_roots",
        sa.Column("backend", sa.String(), nullable=False),
        sa.Column("identity", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("backend", name=op.f("pk_backend_roots")),
    )
    op.create_table(
        "events",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_events_subject", "events", ["subject"], unique=False)
    op.create_table(
        "moves",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("backend", sa.String(), nullable=False),
        sa.Column("source", sa.LargeBinary(), nullable=False),
        sa.Column("target", sa.LargeBinary(), nullable=False),
        sa.Column("device", sa.BigInteger(), nullable=True),
        sa.Column("inode", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_moves")),
    )
    op.create_table(
        "outbox",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("server", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("share", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_attempt", sa.BigInteger(), nullable=False),
        sa.Column("last_error", sa.String(), nullable=True),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("finished", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_outbox_share", "outbox", ["share"], unique=False)
    op.create_index("ix_outbox_state_next_attempt", "outbox", ["state", "next_attempt"], unique=False)
    op.create_table(
        "peers",
        sa.Column("server", sa.String(), nullable=False),
        sa.Column("trust", sa.String(), nullable=True),
        sa.Column("discovery", sa.String(), nullable=True),
        sa.Column("discovery_url", sa.String(), nullable=True),
        sa.Column("discovered", sa.BigInteger(), nullable=True),
        sa.Column("jwks", sa.String(), nullable=True),
        sa.Column("jwks_fetched", sa.BigInteger(), nullable=True),
        sa.Column("signs", sa.Boolean(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("retry", sa.BigInteger(), nullable=True),
        sa.Column("last_error", sa.String(), nullable=True),
        sa.Column("seen", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("server", name=op.f("pk_peers")),
    )
    op.create_table(
        "seen_signatures",
        sa.Column("signature_hash", sa.LargeBinary(), nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("signature_hash", name=op.f("pk_seen_signatures")),
    )
    op.create_index("ix_seen_signatures_expires", "seen_signatures", ["expires"], unique=False)
    op.create_table(
        "users",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("password_hash", sa.String(), nullable=False),
        sa.Column("disabled", sa.Boolean(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_users")),
    )
    op.create_table(
        "received_shares",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("user", sa.String(), nullable=False),
        sa.Column("server", sa.String(), nullable=False),
        sa.Column("provider_id", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("sender", sa.String(), nullable=False),
        sa.Column("owner_display_name", sa.String(), nullable=True),
        sa.Column("sender_display_name", sa.String(), nullable=True),
        sa.Column("share_with", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("description", sa.String(), nullable=True),
        sa.Column("resource_type", sa.String(), nullable=False),
        sa.Column("share_type", sa.String(), nullable=False),
        sa.Column("permissions", sa.JSON(), nullable=False),
        sa.Column("requires_exchange", sa.Boolean(), nullable=False),
        sa.Column("uri", sa.String(), nullable=True),
        sa.Column("encrypted", sa.Boolean(), nullable=False),
        sa.Column("expiration", sa.BigInteger(), nullable=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("mount", sa.String(), nullable=True),
        sa.Column("evidence", sa.String(), nullable=False),
        sa.Column("payload_digest", sa.String(), nullable=False),
        sa.Column("secret_hash", sa.LargeBinary(), nullable=True),
        sa.Column("secret_sealed", sa.LargeBinary(), nullable=True),
        sa.Column("access", sa.String(), nullable=True),
        sa.Column("root_kind", sa.String(), nullable=True),
        sa.Column("root_size", sa.BigInteger(), nullable=True),
        sa.Column("root_modified", sa.BigInteger(), nullable=True),
        sa.Column("root_etag", sa.String(), nullable=True),
        sa.Column("probed", sa.BigInteger(), nullable=True),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("updated", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["user"], ["users.name"], name=op.f("fk_received_shares_user")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_received_shares")),
        sa.UniqueConstraint("user", "mount", name=op.f("uq_received_shares_user_mount")),
    )
    op.create_index("ix_received_shares_provider_id_server", "received_shares", ["provider_id", "server"], unique=False)
    op.create_index("ix_received_shares_server_state", "received_shares", ["server", "state"], unique=False)
    op.create_index("ix_received_shares_secret_hash", "received_shares", ["secret_hash"], unique=False)
    op.create_table(
        "sent_shares",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("provider_id", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("share_with", sa.String(), nullable=False),
        sa.Column("server", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("resource_type", sa.String(), nullable=False),
        sa.Column("share_type", sa.String(), nullable=False),
        sa.Column("permissions", sa.JSON(), nullable=False),
        sa.Column("requires_exchange", sa.Boolean(), nullable=True),
        sa.Column("mount", sa.String(), nullable=False),
        sa.Column("backend", sa.String(), nullable=False),
        sa.Column("path", sa.LargeBinary(), nullable=False),
        sa.Column("device", sa.BigInteger(), nullable=True),
        sa.Column("inode", sa.BigInteger(), nullable=True),
        sa.Column("expiration", sa.BigInteger(), nullable=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("recipient_display_name", sa.String(), nullable=True),
        sa.Column("secret_hash", sa.LargeBinary(), nullable=True),
        sa.Column("secret_sealed", sa.LargeBinary(), nullable=True),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("updated", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["owner"], ["users.name"], name=op.f("fk_sent_shares_owner")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sent_shares")),
        sa.UniqueConstraint("provider_id", name=op.f("uq_sent_shares_provider_id")),
        sa.UniqueConstraint("secret_hash", name=op.f("uq_sent_shares_secret_hash")),
    )
    op.create_index("ix_sent_shares_backend_path", "sent_shares", ["backend", "path"], unique=False)
    op.create_index("ix_sent_shares_owner", "sent_shares", ["owner"], unique=False)
    op.create_index("ix_sent_shares_server", "sent_shares", ["server"], unique=False)
    op.create_table(
        "exchanged_tokens",
        sa.Column("share", sa.String(), nullable=False),
        sa.Column("token_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("obtained", sa.BigInteger(), nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["share"], ["received_shares.id"], name=op.f("fk_exchanged_tokens_share"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("share", name=op.f("pk_exchanged_tokens")),
    )
