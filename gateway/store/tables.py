"""The tables, in the words of the specification; `migrations/` makes them.

Times are whole seconds since the epoch. Paths and names of storage are BLOBs, because TEXT refuses the bytes that
are not UTF-8. A secret is never in clear: `secret_hash` (SHA-256) finds it, `secret_sealed` gives it back to us alone.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)

users = Table(
    "users",
    metadata,
    Column("name", String, primary_key=True),
    Column("password_hash", String, nullable=False),  # argon2id, in its own encoded form
    Column("disabled", Boolean, nullable=False, default=False),
    Column("created", BigInteger, nullable=False),
    Column("email", String),  # null: made from the name and the server
    Column("display_name", String),  # null: the name
    Column("removed", BigInteger),  # null: a user; the name of one who was is given to nobody else
)

sent_shares = Table(
    "sent_shares",
    metadata,
    Column("id", String, primary_key=True),  # opaque; also the client_id of its access tokens
    Column("provider_id", String, nullable=False, unique=True),
    Column("owner", String, ForeignKey("users.name"), nullable=False),
    Column("share_with", String, nullable=False),  # OCM Address
    Column("server", String, nullable=False),  # host[:port] of share_with: who may speak about this Share
    Column("name", String, nullable=False),
    Column("resource_type", String, nullable=False),
    Column("share_type", String, nullable=False),
    Column("permissions", JSON, nullable=False),
    Column("requires_exchange", Boolean),  # decided once, before the first delivery; null: not yet
    Column("mount", String, nullable=False),  # the owner's mount it was shared from: its rights bound the Share's
    Column("backend", String, nullable=False),
    Column("path", LargeBinary, nullable=False),
    Column("device", BigInteger),  # the Resource's identity, where the storage has one
    Column("inode", BigInteger),
    Column("expiration", BigInteger),  # null: never
    Column("state", String, nullable=False),
    Column("recipient_display_name", String),
    Column("secret_hash", LargeBinary, unique=True),  # both null once the Share has ended
    Column("secret_sealed", LargeBinary),
    Column("created", BigInteger, nullable=False),
    Column("updated", BigInteger, nullable=False),
    Column("offered_type", String),  # the resourceType that the peer was told; null: not yet
    Column("used", BigInteger),  # when it was last opened, within a minute; null: never
    Column("offered_form", String),  # the body it was told in: modern or legacy; null: not yet
    Column("reshare", String, nullable=False, server_default="ask"),  # ask, allow: when its receiver wants to share on
    Column("origin", String),  # the Share that this one was made of then
    Column("ssh_login", String),  # the name that its receiver logs in by at the SSH door; null: none
    Column("protocols", JSON),  # webdav, ssh: those that its owner wants; null: what fits the peer
    Column("offered_protocols", JSON),  # those that the peer was told; null: not yet
    Index("ix_sent_shares_backend_path", "backend", "path"),
    Index("ix_sent_shares_owner", "owner"),
    Index("ix_sent_shares_server", "server"),
    Index("ix_sent_shares_origin", "origin"),
    Index("ix_sent_shares_ssh_login", "ssh_login", unique=True),
)

received_shares = Table(
    "received_shares",
    metadata,
    Column("id", String, primary_key=True),
    Column("user", String, ForeignKey("users.name"), nullable=False),
    Column("server", String, nullable=False),  # host[:port] of the sender
    Column("provider_id", String, nullable=False),
    Column("owner", String, nullable=False),  # as received
    Column("sender", String, nullable=False),  # as received
    Column("owner_display_name", String),
    Column("sender_display_name", String),
    Column("share_with", String, nullable=False),  # as received: old peers want it back
    Column("name", String, nullable=False),  # one path component
    Column("description", String),
    Column("resource_type", String, nullable=False),
    Column("share_type", String, nullable=False),
    Column("permissions", JSON, nullable=False),
    Column("requires_exchange", Boolean, nullable=False),
    Column("uri", String),  # as received; null: the webdav root of the sender
    Column("encrypted", Boolean, nullable=False, default=False),
    Column("expiration", BigInteger),
    Column("state", String, nullable=False),
    Column("mount", String),  # its name under /received/, fixed at acceptance
    Column("evidence", String, nullable=False),  # how the sender was proved
    Column("payload_digest", String, nullable=False),  # tells the same Share again from another one
    Column("secret_hash", LargeBinary),
    Column("secret_sealed", LargeBinary),
    Column("access", String),  # the way in that worked last: see gateway/profiles.py
    Column("root_kind", String),  # file or directory, as last probed; null: never seen
    Column("root_size", BigInteger),
    Column("root_modified", BigInteger),  # nanoseconds
    Column("root_etag", String),
    Column("probed", BigInteger),
    Column("created", BigInteger, nullable=False),
    Column("updated", BigInteger, nullable=False),
    Column("protocols", JSON, nullable=False, server_default='["webdav"]'),  # webdav, ssh: by which it can be mounted
    Column("ssh_uri", String),  # as received; null: it is not offered by SSH
    Column("host_key", String),  # the key of that server that the user has accepted, as a line; null: none yet
    UniqueConstraint("user", "mount"),
    Index("ix_received_shares_provider_id_server", "provider_id", "server"),
    Index("ix_received_shares_server_state", "server", "state"),
    Index("ix_received_shares_secret_hash", "secret_hash"),
    Index("ix_received_shares_user_state_server", "user", "state", "server"),  # counts what waits without reading it
)

key_pairs = Table(
    "key_pairs",
    metadata,
    Column("user", String, ForeignKey("users.name"), primary_key=True),
    Column("public", String, nullable=False),  # a line of authorized_keys
    Column("private_sealed", LargeBinary, nullable=False),  # in OpenSSH's form
    Column("created", BigInteger, nullable=False),
)

exchanged_tokens = Table(
    "exchanged_tokens",
    metadata,
    Column("share", String, ForeignKey("received_shares.id", ondelete="CASCADE"), primary_key=True),
    Column("token_sealed", LargeBinary, nullable=False),
    Column("obtained", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=False),
)

peers = Table(
    "peers",
    metadata,
    Column("server", String, primary_key=True),  # host[:port]
    Column("trust", String),  # trusted, blocked, or null
    Column("discovery", String),  # the document as received
    Column("discovery_url", String),
    Column("discovered", BigInteger),
    Column("jwks", String),
    Column("jwks_fetched", BigInteger),
    Column("failures", Integer, nullable=False, default=0),  # in a row
    Column("retry", BigInteger),  # not before; null: now
    Column("last_error", String),
    Column("seen", BigInteger),
    Column("signed_as", String),  # the strongest kind of signature that has verified: cavage, labelled, rfc9421
    Column("pinned_key", JSON),  # {"key_id", "fingerprint"} of the last draft-cavage key that has verified
    Column("legacy_used", JSON),  # when each way of `gateway/legacy.py` was last used
    Column("refused", JSON),  # the last message whose proof failed: what `peer show` says of it
    Column("product", String),  # what it was when the following worked; see gateway/profiles.py
    Column("body", String),  # of a Share that it has taken: modern or legacy
    Column("way_in", String),  # into a Share of its own
    Column("signature", String),  # on a Share that it has taken: rfc9421, cavage or none
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("server", String, nullable=False),
    Column("kind", String, nullable=False),  # share, or the notificationType
    Column("role", String, nullable=False),  # the use case whose message it is
    Column("share", String, nullable=False),  # what it is about: an id in that use case's table, or a party
    Column("state", String, nullable=False),  # pending, delivered, failed
    Column("attempts", Integer, nullable=False, default=0),
    Column("next_attempt", BigInteger, nullable=False),
    Column("last_error", String),
    Column("created", BigInteger, nullable=False),
    Column("finished", BigInteger),
    Index("ix_outbox_state_next_attempt", "state", "next_attempt"),
    Index("ix_outbox_share", "share"),
    sqlite_autoincrement=True,
)

events = Table(
    "events",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("at", BigInteger, nullable=False),
    Column("actor", String, nullable=False),  # a user, an OCM Server, or `operator`
    Column("action", String, nullable=False),
    Column("subject", String, nullable=False),  # the id of a Share, the name of a user, the host of a peer
    Column("detail", JSON, nullable=False),
    Index("ix_events_subject", "subject"),
    sqlite_autoincrement=True,
)

moves = Table(  # a MOVE on its way: written before the rename, applied after it, replayed at start
    "moves",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("backend", String, nullable=False),
    Column("source", LargeBinary, nullable=False),
    Column("target", LargeBinary, nullable=False),
    Column("device", BigInteger),
    Column("inode", BigInteger),
    Column("process", String),  # that works on it; null: nobody
)

replacements = Table(  # what changes places at a name in the way of a COPY or MOVE; settled at start
    "replacements",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("backend", String, nullable=False),
    Column("target", LargeBinary, nullable=False),
    Column("aside", LargeBinary, nullable=False),
    Column("arriving", LargeBinary, nullable=False),
    Column("is_copy", Boolean, nullable=False),
    Column("device", BigInteger),
    Column("inode", BigInteger),
    Column("process", String),
)

locks = Table(  # write locks (RFC 4918 §6); nothing refers to them, so they may go whenever they have expired
    "locks",
    metadata,
    Column("token", String, primary_key=True),  # urn:uuid:..., of use to `principal` alone
    Column("backend", String, nullable=False),
    Column("path", LargeBinary, nullable=False),  # the lock root
    Column("exclusive", Boolean, nullable=False),
    Column("deep", Boolean, nullable=False),  # Depth infinity: holds for everything below it too
    Column("principal", String, nullable=False),  # Grant.principal
    Column("owner", String),  # what the client says of itself, as XML
    Column("expires", BigInteger, nullable=False),
    Index("ix_locks_backend_path", "backend", "path"),
    Index("ix_locks_principal", "principal"),
    Index("ix_locks_expires", "expires"),
)

properties = Table(  # dead properties (RFC 4918 §4): what clients keep with a file or folder
    "properties",
    metadata,
    Column("backend", String, primary_key=True),
    Column("path", LargeBinary, primary_key=True),
    Column("name", String, primary_key=True),  # {namespace}name
    Column("value", String, nullable=False),  # the whole element as XML
)

seen_signatures = Table(
    "seen_signatures",
    metadata,
    Column("signature_hash", LargeBinary, primary_key=True),
    Column("expires", BigInteger, nullable=False),
    Index("ix_seen_signatures_expires", "expires"),
)

backend_roots = Table(  # the identity of each local root at its first start: an unmounted NAS looks empty
    "backend_roots",
    metadata,
    Column("backend", String, primary_key=True),
    Column("identity", String, nullable=False),
)

changes = Table(  # when something was changed in which folder, so that its ETag tells; see store/changes.py
    "changes",
    metadata,
    Column("backend", String, primary_key=True),
    Column("path", LargeBinary, primary_key=True),
    Column("generation", BigInteger, nullable=False),  # nanoseconds since the epoch, each larger than the one before
    Column("below", BigInteger, nullable=False),  # the same, for all that is in the folder at any depth; 0: never
    sqlite_with_rowid=False,
)

uploads = Table(  # what was received of an upload that was left unfinished; the storage has it under `token`
    "uploads",
    metadata,
    Column("token", String, primary_key=True),
    Column("principal", String, nullable=False),  # of the Grant that sent it; nobody else sees it
    Column("backend", String, nullable=False),
    Column("path", LargeBinary, nullable=False),
    Column("total", BigInteger, nullable=False),  # bytes that the whole will have
    Column("size", BigInteger, nullable=False),  # bytes that are durable
    Column("device", BigInteger),
    Column("inode", BigInteger),
    Column("expires", BigInteger, nullable=False),
    UniqueConstraint("principal", "backend", "path", "total"),
    Index("ix_uploads_backend_path", "backend", "path"),
)

directories = Table(  # the last good list of each Directory Service; verified again whenever it is read
    "directories",
    metadata,
    Column("url", String, primary_key=True),
    Column("document", LargeBinary),  # the JWS as received; null: none yet
    Column("version", Integer, nullable=False),  # counts the documents
    Column("fetched", BigInteger),  # when that document came
    Column("checked", BigInteger),  # when it was last asked for
    Column("problem", String),  # why it did not come then; null: it did
)

invites = Table(  # what a local user has invited somebody with; the token itself was shown once
    "invites",
    metadata,
    Column("id", String, primary_key=True),
    Column("user", String, ForeignKey("users.name"), nullable=False),
    Column("token_hash", LargeBinary, nullable=False, unique=True),
    Column("note", String),  # for whom it is, in the user's own words
    Column("created", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=False),
    Column("revoked", BigInteger),
    Column("accepted", BigInteger),
    Column("server", String),  # host[:port] that accepted it
    Column("user_id", String),  # who there, as received
    Index("ix_invites_user", "user"),
)

contacts = Table(  # the address book of each local user
    "contacts",
    metadata,
    Column("user", String, ForeignKey("users.name"), primary_key=True),
    Column("address", String, primary_key=True),  # OCM Address
    Column("user_id", String, nullable=False),  # as received
    Column("name", String),
    Column("email", String),
    Column("source", String, nullable=False),  # invite sent, invite accepted, imported, by hand
    Column("verified", Boolean, nullable=False),  # their server itself has said so
    Column("auto_accept", Boolean, nullable=False),  # what they share is accepted without asking
    Column("created", BigInteger, nullable=False),
    Column("server", String, nullable=False, server_default=""),  # host[:port] of the address
    Index("ix_contacts_server", "server"),
)

last_seen = Table(  # received folders as they were last listed; bounded by gateway/last_seen.py
    "last_seen",
    metadata,
    Column("share", String, primary_key=True),
    Column("path", LargeBinary, primary_key=True),
    Column("taken", BigInteger, nullable=False),
    Column("content", LargeBinary, nullable=False),  # packed by gateway/store/last_seen.py
)

share_requests = Table(  # for a Share that there is not yet: by others to our users, and by our users to others
    "share_requests",
    metadata,
    Column("id", String, primary_key=True),
    Column("direction", String, nullable=False),  # incoming, outgoing
    Column("kind", String, nullable=False),  # the notificationType: REQUEST_SHARE, REQUEST_RESHARE
    Column("user", String, ForeignKey("users.name")),  # ours: the owner who is asked, or who asks; NULL: nobody here
    Column("server", String, nullable=False),  # host[:port] of the other side
    Column("owner", String, nullable=False),  # OCM Address
    Column("share_with", String, nullable=False),  # OCM Address
    Column("resource", String, nullable=False),  # what is asked for, in the words of who asks
    Column("share", String),  # of a reshare: our id of the Share that it is of
    Column("permissions", JSON, nullable=False),
    Column("state", String, nullable=False),
    Column("granted", String),  # our id of the Share that came of it
    Column("created", BigInteger, nullable=False),
    Column("updated", BigInteger, nullable=False),
    Index("ix_share_requests_user", "user"),
    Index("ix_share_requests_owner_state", "owner", "state"),
    Index("ix_share_requests_server_state", "server", "state"),
    Index("ix_share_requests_state_created", "state", "created"),
)

kept = Table(  # where a received Share has been written as ordinary files, and how that ended
    "kept",
    metadata,
    Column("share", String, primary_key=True),
    Column("source", LargeBinary, primary_key=True),  # path in the Share
    Column("target", LargeBinary, primary_key=True),  # path in the user's tree
    Column("state", String, nullable=False),  # running, done, incomplete, stopped, interrupted
    Column("reason", String),  # why it was stopped
    Column("files", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("skipped", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    Column("begun", BigInteger, nullable=False),
    Column("ended", BigInteger),
)

kept_files = Table(  # which version of a file of a Share was written where; until the Share ends
    "kept_files",
    metadata,
    Column("share", String, primary_key=True),
    Column("backend", String, primary_key=True),
    Column("path", LargeBinary, primary_key=True),
    Column("version", String, nullable=False),  # etag of the source
    Column("etag", String, nullable=False),  # of what was written
    sqlite_with_rowid=False,
)

user_keys = Table(  # SSH keys that a local user logs in with
    "user_keys",
    metadata,
    Column("user", String, ForeignKey("users.name"), primary_key=True),
    Column("fingerprint", String, primary_key=True),  # SHA256:..., as OpenSSH shows it
    Column("blob", LargeBinary, nullable=False),  # the key as it goes over the wire
    Column("comment", String, nullable=False),
    Column("created", BigInteger, nullable=False),
)

share_keys = Table(  # SSH keys of the receiver of a sent Share, for that Share alone
    "share_keys",
    metadata,
    Column("share", String, ForeignKey("sent_shares.id"), primary_key=True),
    Column("fingerprint", String, primary_key=True),
    Column("blob", LargeBinary, nullable=False),
)
