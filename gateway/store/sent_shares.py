"""Shares that this gateway's users have sent."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update
from sqlalchemy.engine import RowMapping

from backends.interface import Identity
from backends.paths import StoragePath
from gateway.ocm.shares import WEBDAV, BodyForm, Permission
from gateway.ocm.states import SENT_OPEN
from gateway.store.rows import (
    at_or_below,
    bounds,
    identity_from_columns,
    identity_to_columns,
    path_from_column,
    permissions_from_column,
    permissions_to_column,
)
from gateway.store.share_keys import remove_of as forget_keys
from gateway.store.tables import sent_shares, share_keys


@dataclass(frozen=True, slots=True)
class SentShare:
    id: str
    provider_id: str
    owner: str
    share_with: str
    server: str
    name: str
    resource_type: str
    share_type: str
    permissions: frozenset[Permission]
    requires_exchange: bool | None  # None: not decided yet, as nothing has been sent
    offered_type: str | None  # the resourceType that the peer was told; None: nothing has been sent
    mount: str
    backend: str
    path: StoragePath
    identity: Identity | None
    expiration: int | None
    state: str
    recipient_display_name: str | None
    created: int
    updated: int
    used: int | None = None  # when it was last opened, within a minute
    offered_form: BodyForm | None = None  # the body it was told in; None: nothing has been sent
    reshare: str = "ask"  # or `allow`: what follows when its receiver asks to share it on
    origin: str | None = None  # the Share that this one was made of when its receiver asked for that
    ssh_login: str | None = None  # the name that its receiver logs in by at the SSH door; None: not offered there
    protocols: tuple[str, ...] | None = None  # those that its owner wants; None: what fits the peer
    offered_protocols: tuple[str, ...] | None = None  # those that the peer was told; None: nothing has been sent

    def expired(self, now: float) -> bool:
        return self.expiration is not None and now >= self.expiration

    @property
    def has_told_secret(self) -> bool:
        """Tell whether the peer knows the Share's secret, if it was told of the Share: by SSH alone there is none."""
        return WEBDAV in (self.offered_protocols or (WEBDAV,))

    def opens(self, now: float) -> bool:
        """Tell whether its credentials give access now, as far as the Share itself goes."""
        return self.state in SENT_OPEN and not self.expired(now)


_BY_SECRET_HASH = select(sent_shares).where(sent_shares.c.secret_hash == bindparam("hash"))
_BY_SSH_KEY = (
    select(sent_shares)
    .join(share_keys, share_keys.c.share == sent_shares.c.id)
    .where(sent_shares.c.ssh_login == bindparam("login"), share_keys.c.fingerprint == bindparam("fingerprint"))
)


def principal(share_id: str) -> str:
    """Return who comes with the credential of a Share, as locks and unfinished uploads are kept."""
    return f"share:{share_id}"


def add(tx: Connection, share: SentShare, secret_hash: bytes, secret_sealed: bytes) -> None:
    tx.execute(
        insert(sent_shares).values(
            id=share.id,
            provider_id=share.provider_id,
            owner=share.owner,
            share_with=share.share_with,
            server=share.server,
            name=share.name,
            resource_type=share.resource_type,
            share_type=share.share_type,
            permissions=permissions_to_column(share.permissions),
            requires_exchange=share.requires_exchange,
            offered_type=share.offered_type,
            offered_form=share.offered_form,
            mount=share.mount,
            backend=share.backend,
            path=bytes(share.path),
            **identity_to_columns(share.identity),
            expiration=share.expiration,
            state=share.state,
            recipient_display_name=share.recipient_display_name,
            secret_hash=secret_hash,
            secret_sealed=secret_sealed,
            created=share.created,
            updated=share.updated,
            reshare=share.reshare,
            origin=share.origin,
            ssh_login=share.ssh_login,
            protocols=_listed(share.protocols),
            offered_protocols=_listed(share.offered_protocols),
        )
    )


def get(tx: Connection, share_id: str) -> SentShare | None:
    return _one(tx, sent_shares.c.id == share_id)


def by_secret_hash(tx: Connection, secret_hash: bytes) -> SentShare | None:
    row = tx.execute(_BY_SECRET_HASH, {"hash": secret_hash}).mappings().first()
    return _share(row) if row else None


def by_ssh_key(tx: Connection, login: str, fingerprint: str) -> SentShare | None:
    """Return the Share that is logged into by this name, if its receiver has this key."""
    row = tx.execute(_BY_SSH_KEY, {"login": login, "fingerprint": fingerprint}).mappings().first()
    return _share(row) if row else None


def get_by_provider_id(tx: Connection, provider_id: str) -> SentShare | None:
    return _one(tx, sent_shares.c.provider_id == provider_id)


def by_provider_id(tx: Connection, provider_id: str, server: str) -> SentShare | None:
    """Return the Share if it was sent to `server`: nobody else may speak about it (wire.md, Binding)."""
    return _one(tx, sent_shares.c.provider_id == provider_id, sent_shares.c.server == server)


def by_provider_id_and_secret(tx: Connection, provider_id: str, secret_hash: bytes) -> SentShare | None:
    """Return the Share to whoever proves both, which is all that unsigned peers can do."""
    return _one(tx, sent_shares.c.provider_id == provider_id, sent_shares.c.secret_hash == secret_hash)


def of_owner(tx: Connection, owner: str | None) -> list[SentShare]:
    """Return the Shares of `owner`, or of everybody, the newest last."""
    query = select(sent_shares).order_by(sent_shares.c.created, sent_shares.c.id)
    if owner is not None:
        query = query.where(sent_shares.c.owner == owner)
    return [_share(row) for row in tx.execute(query).mappings()]


def open_with(tx: Connection, server: str, share_with: str, share_type: str) -> list[SentShare]:
    """Return the open Shares with one user, or one group, of `server`."""
    parties = (sent_shares.c.share_with == share_with, sent_shares.c.share_type == share_type)
    query = select(sent_shares).where(sent_shares.c.server == server, *parties, sent_shares.c.state.in_(SENT_OPEN))
    return [_share(row) for row in tx.execute(query).mappings()]


def reshares_of(tx: Connection, share_id: str) -> list[SentShare]:
    """Return the open Shares that were made of this one."""
    made_of = sent_shares.c.origin == share_id, sent_shares.c.state.in_(SENT_OPEN)
    return [_share(row) for row in tx.execute(select(sent_shares).where(*made_of)).mappings()]


def family_of(tx: Connection, share: SentShare) -> list[SentShare]:
    """Return the open Shares that were made of the same first one as `share`, at once or by way of others."""
    while share.origin is not None and (above := get(tx, share.origin)) is not None:
        share = above
    found, looked_at = reshares_of(tx, share.id), 0
    while looked_at < len(found):
        found += reshares_of(tx, found[looked_at].id)
        looked_at += 1
    return found


_WITHIN = select(sent_shares).where(
    sent_shares.c.backend == bindparam("backend"),
    sent_shares.c.state.in_(SENT_OPEN),
    at_or_below(sent_shares.c.path),
)


def within(tx: Connection, backend: str, path: StoragePath) -> list[SentShare]:
    """Return the open Shares whose Resource is `path` or lies below it."""
    return [_share(row) for row in tx.execute(_WITHIN, {"backend": backend, **bounds(path)}).mappings()]


def over_since(tx: Connection, before: int) -> list[SentShare]:
    """Return the open Shares that have expired at `before`, or earlier."""
    over = sent_shares.c.state.in_(SENT_OPEN), sent_shares.c.expiration <= before
    return [_share(row) for row in tx.execute(select(sent_shares).where(*over)).mappings()]


def sealed_secret(tx: Connection, share_id: str) -> bytes | None:
    return tx.execute(select(sent_shares.c.secret_sealed).where(sent_shares.c.id == share_id)).scalar()


def set_state(tx: Connection, share_id: str, state: str, now: int) -> None:
    _set(tx, share_id, state=state, updated=now)


def set_recipient_display_name(tx: Connection, share_id: str, name: str) -> None:
    _set(tx, share_id, recipient_display_name=name)


def set_offered(
    tx: Connection,
    share_id: str,
    *,
    requires_exchange: bool,
    resource_type: str,
    form: BodyForm,
    protocols: Iterable[str] = (WEBDAV,),
    ssh_login: str | None = None,
) -> None:
    """Remember what the peer is told, before it is."""
    _set(
        tx,
        share_id,
        requires_exchange=requires_exchange,
        offered_type=resource_type,
        offered_form=form,
        offered_protocols=list(protocols),
        ssh_login=ssh_login,
    )


def set_used(tx: Connection, share_id: str, now: int) -> None:
    _set(tx, share_id, used=now)


def set_permissions(tx: Connection, share_id: str, permissions: Iterable[Permission], now: int) -> None:
    _set(tx, share_id, permissions=permissions_to_column(permissions), updated=now)


def set_reshare(tx: Connection, share_id: str, reshare: str, now: int) -> None:
    _set(tx, share_id, reshare=reshare, updated=now)


def set_expiration(tx: Connection, share_id: str, expiration: int | None, now: int) -> None:
    _set(tx, share_id, expiration=expiration, updated=now)


def set_path(tx: Connection, share_id: str, path: StoragePath) -> None:
    _set(tx, share_id, path=bytes(path))


def set_location(tx: Connection, share_id: str, backend: str, path: StoragePath, identity: Identity | None) -> None:
    _set(tx, share_id, backend=backend, path=bytes(path), **identity_to_columns(identity))


def wipe_secret(tx: Connection, share_id: str) -> None:
    """Forget all that has opened the Share: the secret, the log-in name at the SSH door, and the keys for it."""
    _set(tx, share_id, secret_hash=None, secret_sealed=None, ssh_login=None)
    forget_keys(tx, share_id)


def _set(tx: Connection, share_id: str, **values: Any) -> None:
    tx.execute(update(sent_shares).where(sent_shares.c.id == share_id).values(**values))


def _one(tx: Connection, *conditions: Any) -> SentShare | None:
    row = tx.execute(select(sent_shares).where(*conditions)).mappings().first()
    return _share(row) if row else None


def _share(row: RowMapping) -> SentShare:
    return SentShare(
        id=row["id"],
        provider_id=row["provider_id"],
        owner=row["owner"],
        share_with=row["share_with"],
        server=row["server"],
        name=row["name"],
        resource_type=row["resource_type"],
        share_type=row["share_type"],
        permissions=permissions_from_column(row["permissions"]),
        requires_exchange=row["requires_exchange"],
        offered_type=row["offered_type"],
        mount=row["mount"],
        backend=row["backend"],
        path=path_from_column(row["path"]),
        identity=identity_from_columns(row),
        expiration=row["expiration"],
        state=row["state"],
        recipient_display_name=row["recipient_display_name"],
        created=row["created"],
        updated=row["updated"],
        used=row["used"],
        offered_form=row["offered_form"],
        reshare=row["reshare"],
        origin=row["origin"],
        ssh_login=row["ssh_login"],
        protocols=_named(row["protocols"]),
        offered_protocols=_named(row["offered_protocols"]),
    )


def _listed(protocols: tuple[str, ...] | None) -> list[str] | None:
    return None if protocols is None else list(protocols)


def _named(column: list[str] | None) -> tuple[str, ...] | None:
    return None if column is None else tuple(column)
