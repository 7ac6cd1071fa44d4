"""Invites that our users have made; a token is kept as its hash alone."""

from __future__ import annotations

from dataclasses import dataclass, fields

from sqlalchemy import Connection, delete, insert, select, update

from gateway.store.tables import invites


@dataclass(frozen=True, slots=True)
class Invite:
    id: str
    user: str
    note: str | None
    created: int
    expires: int
    revoked: int | None = None
    accepted: int | None = None
    server: str | None = None
    user_id: str | None = None

    def state(self, now: float) -> str:
        """Return accepted, revoked, expired or open."""
        if self.accepted is not None:
            return "accepted"
        if self.revoked is not None:
            return "revoked"
        return "expired" if now >= self.expires else "open"


_COLUMNS = tuple(invites.c[field.name] for field in fields(Invite))


def add(tx: Connection, invite: Invite, token_hash: bytes) -> None:
    values = {field.name: getattr(invite, field.name) for field in fields(Invite)}
    tx.execute(insert(invites).values(values | {"token_hash": token_hash}))


def get(tx: Connection, invite_id: str) -> Invite | None:
    row = tx.execute(select(*_COLUMNS).where(invites.c.id == invite_id)).first()
    return Invite(*row) if row else None


def by_token_hash(tx: Connection, token_hash: bytes) -> Invite | None:
    row = tx.execute(select(*_COLUMNS).where(invites.c.token_hash == token_hash)).first()
    return Invite(*row) if row else None


def of_user(tx: Connection, user: str | None) -> list[Invite]:
    """Return the invites of `user`, or of everybody, the newest last."""
    query = select(*_COLUMNS).order_by(invites.c.created, invites.c.id)
    return [Invite(*row) for row in tx.execute(query if user is None else query.where(invites.c.user == user))]


def set_accepted(tx: Connection, invite_id: str, server: str, user_id: str, now: int) -> None:
    tx.execute(update(invites).where(invites.c.id == invite_id).values(accepted=now, server=server, user_id=user_id))


def set_revoked(tx: Connection, invite_id: str, now: int) -> None:
    tx.execute(update(invites).where(invites.c.id == invite_id).values(revoked=now))


def remove_of(tx: Connection, user: str) -> None:
    """Forget what a user has invited somebody with: it opens nothing any more."""
    tx.execute(delete(invites).where(invites.c.user == user))
