"""Shares that others have sent to this gateway's users."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import Connection, bindparam, func, insert, select, update
from sqlalchemy.engine import RowMapping

from backends.interface import Entry, Kind
from gateway.ocm.shares import SSH, WEBDAV, Permission, ShareType
from gateway.ocm.ssh_address import SSHAddress
from gateway.ocm.states import RECEIVED_LIVE, ReceivedState
from gateway.store.rows import permissions_from_column, permissions_to_column
from gateway.store.tables import received_shares

STORAGE = "received:"  # begins the name that a Remote Resource has as storage; the Share's id follows


@dataclass(frozen=True, slots=True)
class ReceivedShare:
    id: str
    user: str
    server: str
    provider_id: str
    owner: str
    sender: str
    owner_display_name: str | None
    sender_display_name: str | None
    share_with: str
    name: str
    description: str | None
    resource_type: str
    share_type: str
    permissions: frozenset[Permission]
    requires_exchange: bool
    uri: str | None
    encrypted: bool
    expiration: int | None
    state: str
    mount: str | None
    evidence: str
    payload_digest: str
    access: str | None
    root_kind: str | None
    root_size: int | None
    root_modified: int | None
    root_etag: str | None
    probed: int | None
    created: int
    updated: int
    protocols: tuple[str, ...] = (WEBDAV,)  # by which it can be mounted
    ssh_uri: str | None = None
    host_key: str | None = None  # of the SSH server, as its user has accepted it

    def expired(self, now: float) -> bool:
        return self.expiration is not None and now >= self.expiration

    @property
    def ssh(self) -> SSHAddress | None:
        """Return where it is met by SSH, if it is."""
        return None if self.ssh_uri is None else SSHAddress.parse(self.ssh_uri)

    @property
    def is_by_ssh(self) -> bool:
        """Tell whether its content is reached by SSH, as far as is known."""
        return self.protocols == (SSH,) or (self.access or "").startswith(SSH)

    @property
    def origin(self) -> str:
        """Return whose silence its user meets: the sender's server, or its SSH server."""
        return self.ssh.origin if self.is_by_ssh and self.ssh is not None else self.server

    @property
    def storage(self) -> str:
        """Return the name that it has as storage."""
        return f"{STORAGE}{self.id}"

    def root_entry(self, name: bytes) -> Entry:
        """Return the last known root under `name`; one never seen shows as an empty folder (design rule 8)."""
        kind = Kind.FILE if self.root_kind == "file" else Kind.DIRECTORY
        modified = self.root_modified or self.created * 1_000_000_000
        return Entry(name, kind, self.root_size or 0, modified, self.root_etag or f"unseen-{self.id[:24]}")


_COLUMNS = tuple(field.name for field in fields(ReceivedShare))
_INSERT = insert(received_shares)
_BY_PROVIDER_ID = (
    select(received_shares)
    .where(received_shares.c.server == bindparam("server"), received_shares.c.provider_id == bindparam("provider_id"))
    .order_by(received_shares.c.created)
)
_PENDING = select(func.count(), func.count().filter(received_shares.c.server == bindparam("of_server"))).where(
    received_shares.c.user == bindparam("of_user"), received_shares.c.state == ReceivedState.PENDING
)


def add(tx: Connection, share: ReceivedShare, secret_hash: bytes | None, secret_sealed: bytes | None) -> None:
    values = {name: getattr(share, name) for name in _COLUMNS}
    values["permissions"] = permissions_to_column(share.permissions)
    values["protocols"] = list(share.protocols)
    # Given apart from the statement, which is then made once: many Shares arrive in a second.
    tx.execute(_INSERT, values | {"secret_hash": secret_hash, "secret_sealed": secret_sealed})


def get(tx: Connection, share_id: str) -> ReceivedShare | None:
    return _one(tx, received_shares.c.id == share_id)


def by_provider_id(tx: Connection, server: str, provider_id: str) -> list[ReceivedShare]:
    """Return what `server` has sent under this id: one Share, or several from servers with a constant id (Seafile)."""
    found = tx.execute(_BY_PROVIDER_ID, {"server": server, "provider_id": provider_id})
    return [_share(row) for row in found.mappings()]


def by_provider_id_and_secret(tx: Connection, provider_id: str, secret_hash: bytes) -> ReceivedShare | None:
    return _one(tx, received_shares.c.provider_id == provider_id, received_shares.c.secret_hash == secret_hash)


def only_live(tx: Connection, provider_id: str) -> ReceivedShare | None:
    """Return the one live Share with this id, whoever has sent it; None when there is none, or more.

    Of a group Share that is the row of one member.
    """
    live = received_shares.c.provider_id == provider_id, received_shares.c.state.in_(RECEIVED_LIVE)
    announced = select(received_shares.c.server, received_shares.c.payload_digest).where(*live).distinct()
    if len(tx.execute(announced.limit(2)).all()) != 1:
        return None
    return the_one([_share(row) for row in tx.execute(select(received_shares).where(*live).limit(2)).mappings()])


def the_one(rows: list[ReceivedShare]) -> ReceivedShare | None:
    """Return the Share that all `rows` are: one row, or those of members of a group; None for none, or several."""
    if len({row.payload_digest for row in rows}) != 1:
        return None
    return rows[0] if len(rows) == 1 or rows[0].share_type == ShareType.GROUP else None


def every_row(tx: Connection, share: ReceivedShare) -> list[ReceivedShare]:
    """Return the Share as each of its users has it: one row, or those of all members of a group."""
    if share.share_type != ShareType.GROUP:
        return [share]
    rows = by_provider_id(tx, share.server, share.provider_id)
    return [row for row in rows if row.payload_digest == share.payload_digest]


def live_from(tx: Connection, server: str) -> list[ReceivedShare]:
    """Return the live Shares that `server` has sent."""
    live = received_shares.c.server == server, received_shares.c.state.in_(RECEIVED_LIVE)
    return [_share(row) for row in tx.execute(select(received_shares).where(*live)).mappings()]


def live_of_groups(tx: Connection) -> list[ReceivedShare]:
    """Return the live rows of all group Shares, the oldest first."""
    query = select(received_shares).where(
        received_shares.c.share_type == ShareType.GROUP, received_shares.c.state.in_(RECEIVED_LIVE)
    )
    return [_share(row) for row in tx.execute(query.order_by(received_shares.c.created)).mappings()]


def with_secret(tx: Connection, share_id: str, secret_hash: bytes) -> bool:
    """Tell whether the Share's secret is the one with this hash."""
    return _one(tx, received_shares.c.id == share_id, received_shares.c.secret_hash == secret_hash) is not None


def of_user(tx: Connection, user: str | None) -> list[ReceivedShare]:
    """Return the Shares of `user`, or of everybody, the newest last."""
    query = select(received_shares).order_by(received_shares.c.created, received_shares.c.id)
    if user is not None:
        query = query.where(received_shares.c.user == user)
    return [_share(row) for row in tx.execute(query).mappings()]


def accepted(tx: Connection, user: str, now: int) -> dict[str, ReceivedShare]:
    """Return the user's live accepted Shares by the name under /received/."""
    query = select(received_shares).where(received_shares.c.user == user, received_shares.c.state == "accepted")
    shares = (_share(row) for row in tx.execute(query.order_by(received_shares.c.mount)).mappings())
    return {share.mount: share for share in shares if share.mount is not None and not share.expired(now)}


def every_accepted(tx: Connection) -> list[ReceivedShare]:
    query = select(received_shares).where(received_shares.c.state == "accepted")
    return [_share(row) for row in tx.execute(query).mappings()]


def over(tx: Connection, now: int) -> list[ReceivedShare]:
    """Return the live Shares that have expired."""
    query = select(received_shares).where(
        received_shares.c.state.in_(RECEIVED_LIVE), received_shares.c.expiration <= now
    )
    return [_share(row) for row in tx.execute(query).mappings()]


def is_accepted(tx: Connection, share_id: str) -> bool:
    """Tell whether the Share is accepted, and has not ended meanwhile."""
    query = select(received_shares.c.state).where(received_shares.c.id == share_id)
    return tx.execute(query).scalar() == ReceivedState.ACCEPTED


def count_pending(tx: Connection, user: str, server: str) -> tuple[int, int]:
    """Return how many Shares wait for the answer of `user`: all, and those from `server`."""
    waiting, of_server = tx.execute(_PENDING, {"of_user": user, "of_server": server}).one()
    return waiting, of_server


def taken_mounts(tx: Connection, user: str) -> set[str]:
    query = select(received_shares.c.mount).where(received_shares.c.user == user, received_shares.c.mount.is_not(None))
    return set(tx.execute(query).scalars())


def sealed_secret(tx: Connection, share_id: str) -> bytes | None:
    return tx.execute(select(received_shares.c.secret_sealed).where(received_shares.c.id == share_id)).scalar()


def set_state(tx: Connection, share_id: str, state: str, now: int) -> None:
    _set(tx, share_id, state=state, updated=now)


def set_mount(tx: Connection, share_id: str, mount: str | None) -> None:
    _set(tx, share_id, mount=mount)


def set_permissions(tx: Connection, share_id: str, permissions: Iterable[Permission], now: int) -> None:
    _set(tx, share_id, permissions=permissions_to_column(permissions), updated=now)


def set_evidence(tx: Connection, share_id: str, evidence: str) -> None:
    _set(tx, share_id, evidence=evidence)


def set_access(tx: Connection, share_id: str, access: str) -> None:
    _set(tx, share_id, access=access)


def set_host_key(tx: Connection, share_id: str, host_key: str) -> None:
    _set(tx, share_id, host_key=host_key)


def set_root(tx: Connection, share_id: str, root: Entry, now: int) -> None:
    """Remember how the Remote Resource looked, so that listing /received/ asks no peer."""
    _set(
        tx,
        share_id,
        root_kind=root.kind.value,
        root_size=root.size,
        root_modified=root.modified,
        root_etag=root.etag,
        probed=now,
    )


def wipe_secret(tx: Connection, share_id: str) -> None:
    _set(tx, share_id, secret_hash=None, secret_sealed=None)


def _set(tx: Connection, share_id: str, **values: Any) -> None:
    tx.execute(update(received_shares).where(received_shares.c.id == share_id).values(**values))


def _one(tx: Connection, *conditions: Any) -> ReceivedShare | None:
    row = tx.execute(select(received_shares).where(*conditions)).mappings().first()
    return _share(row) if row else None


def _share(row: RowMapping) -> ReceivedShare:
    values = {name: row[name] for name in _COLUMNS}
    values["permissions"] = permissions_from_column(row["permissions"])
    values["protocols"] = tuple(row["protocols"])
    return ReceivedShare(**values)
