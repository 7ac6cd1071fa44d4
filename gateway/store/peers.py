"""What is known of other OCM Servers: trust, discovery, keys, and how they have answered lately."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import Connection, and_, bindparam, delete, func, insert, or_, select, update
from sqlalchemy.engine import RowMapping

from gateway.ocm.shares import BodyForm
from gateway.ocm.states import ReceivedState
from gateway.store.share_requests import OUTGOING
from gateway.store.tables import contacts, peers, received_shares, sent_shares, share_requests


@dataclass(frozen=True, slots=True)
class PeerRecord:
    server: str
    trust: str | None = None
    discovery: str | None = None
    discovery_url: str | None = None
    discovered: int | None = None
    jwks: str | None = None
    jwks_fetched: int | None = None
    failures: int = 0
    retry: int | None = None
    last_error: str | None = None
    seen: int | None = None
    product: str | None = None  # what it was when the following worked
    body: BodyForm | None = None
    way_in: str | None = None
    signature: str | None = None
    signed_as: str | None = None
    pinned_key: Mapping[str, str] | None = None
    legacy_used: Mapping[str, int] | None = None
    refused: Mapping[str, Any] | None = None

    @property
    def signs(self) -> bool:
        """Tell whether the peer has once sent a signature that verified."""
        return self.signed_as is not None


WORKED = ("body", "way_in", "signature")  # columns

_COLUMNS = tuple(field.name for field in fields(PeerRecord))
_GET = select(peers).where(peers.c.server == bindparam("of_server"))


def get(tx: Connection, server: str) -> PeerRecord:
    """Return what is known of `server`; an empty record when nothing is."""
    row = tx.execute(_GET, {"of_server": server}).mappings().first()
    return _record(row) if row else PeerRecord(server)


def everyone(tx: Connection) -> list[PeerRecord]:
    return [_record(row) for row in tx.execute(select(peers).order_by(peers.c.server)).mappings()]


def is_known(tx: Connection, server: str) -> bool:
    return tx.execute(select(peers.c.server).where(peers.c.server == server)).first() is not None


def put(tx: Connection, server: str, **values: Any) -> None:
    """Set columns of `server`, making its record when there is none."""
    if not _change(tx, server, **values):
        tx.execute(insert(peers).values({"server": server, "failures": 0} | values))


def note_use(tx: Connection, server: str, way: str, now: int) -> None:
    """Remember when a legacy way was last used; a server that has no record gets none by this."""
    used = dict(tx.execute(select(peers.c.legacy_used).where(peers.c.server == server)).scalar() or {})
    _change(tx, server, legacy_used=used | {way: now})


def note_refused(tx: Connection, server: str, refused: Mapping[str, Any]) -> None:
    """Remember the last message whose proof failed; a server that has no record gets none by this."""
    _change(tx, server, refused=dict(refused))


def legacy_last_used(tx: Connection) -> dict[str, int]:
    """Return when each legacy way was last used, by whomever."""
    last: dict[str, int] = {}
    for used in tx.execute(select(peers.c.legacy_used).where(peers.c.legacy_used.is_not(None))).scalars():
        for way, moment in (used or {}).items():
            last[way] = max(moment, last.get(way, 0))
    return last


def recall(tx: Connection, server: str, product: str) -> PeerRecord:
    """Return what has worked with `server`, in an empty record if that was while it was another product."""
    record = get(tx, server)
    return record if record.product == product else PeerRecord(server)


def worked(tx: Connection, server: str, product: str, **what: str) -> None:
    """Remember what has worked with `server`; what worked while it was another product is forgotten."""
    record = get(tx, server)
    before = dict.fromkeys(WORKED) if record.product != product else {}
    values = {**before, "product": product, **what}
    if any(getattr(record, name) != value for name, value in values.items()):
        put(tx, server, **values)


def forget(tx: Connection, server: str) -> bool:
    """Drop the record; return whether there was one."""
    return tx.execute(delete(peers).where(peers.c.server == server)).rowcount == 1


def is_stranger(tx: Connection, server: str) -> bool:
    """Tell whether neither the operator nor a user has ever dealt with `server`.

    There is no trust, no Share sent or accepted, nobody there is a contact, and nobody was asked for a Share. A Share
    that nobody has accepted makes no acquaintance, since anybody can send one.
    """
    trusted = select(peers.c.server).where(peers.c.server == server, peers.c.trust.is_not(None))
    return not tx.execute(select(or_(trusted.exists(), *_dealt_with(server)))).scalar()


def forget_strangers(tx: Connection, keep: int) -> None:
    """Drop what is known of strangers, but for the `keep` that were seen last."""
    strange = and_(peers.c.trust.is_(None), *(~dealt for dealt in _dealt_with(peers.c.server)))
    seen_last = func.coalesce(peers.c.seen, 0).desc()
    surplus = select(peers.c.server).where(strange).order_by(seen_last, peers.c.server).offset(keep)
    tx.execute(delete(peers).where(peers.c.server.in_(surplus)))


def _dealt_with(server: Any) -> tuple[Any, ...]:
    """Return the conditions of which each says that a user of ours deals with `server`, or has."""
    accepted, asked = received_shares.c.state == ReceivedState.ACCEPTED, share_requests.c.direction == OUTGOING
    return (
        select(contacts.c.address).where(contacts.c.server == server).exists(),
        select(share_requests.c.id).where(share_requests.c.server == server, asked).exists(),
        select(sent_shares.c.id).where(sent_shares.c.server == server).exists(),
        select(received_shares.c.id).where(received_shares.c.server == server, accepted).exists(),
    )


def _change(tx: Connection, server: str, **values: Any) -> bool:
    """Set columns of `server`; return whether it has a record."""
    return tx.execute(update(peers).where(peers.c.server == server).values(**values)).rowcount == 1


def _record(row: RowMapping) -> PeerRecord:
    return PeerRecord(**{name: row[name] for name in _COLUMNS})
