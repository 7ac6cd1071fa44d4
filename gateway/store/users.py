"""Local users."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, bindparam, insert, select, update

from gateway.store.tables import users

_DISPLAY_NAME = select(users.c.display_name).where(users.c.name == bindparam("of_user"))
_PASSWORD_HASH = select(users.c.password_hash).where(users.c.name == bindparam("of_user"), users.c.disabled.is_(False))


@dataclass(frozen=True, slots=True)
class User:
    name: str
    disabled: bool
    created: int
    email: str | None = None
    display_name: str | None = None


_COLUMNS = (users.c.name, users.c.disabled, users.c.created, users.c.email, users.c.display_name)
_USERS = select(*_COLUMNS).where(users.c.removed.is_(None))


def principal(name: str) -> str:
    """Return the user as locks and unfinished uploads are kept."""
    return f"user:{name}"


def add(
    tx: Connection,
    name: str,
    password_hash: str,
    now: int,
    *,
    email: str | None = None,
    display_name: str | None = None,
) -> None:
    row = {"name": name, "password_hash": password_hash, "disabled": False, "created": now}
    tx.execute(insert(users).values(row | {"email": email, "display_name": display_name}))


def get(tx: Connection, name: str) -> User | None:
    row = tx.execute(_USERS.where(users.c.name == name)).first()
    return User(*row) if row else None


def shown_name(tx: Connection, name: str) -> str:
    """Return what people see of a user: the display name, or else the name."""
    return tx.execute(_DISPLAY_NAME, {"of_user": name}).scalar() or name


def everybody(tx: Connection) -> list[User]:
    return [User(*row) for row in tx.execute(_USERS.order_by(users.c.name))]


def is_taken(tx: Connection, name: str) -> bool:
    """Tell whether there is, or once was, a user of that name."""
    return tx.execute(select(users.c.name).where(users.c.name == name)).first() is not None


def remove(tx: Connection, name: str, now: int) -> None:
    """Keep nothing of a user but the name."""
    gone = {"removed": now, "disabled": True, "password_hash": "", "email": None, "display_name": None}
    tx.execute(update(users).where(users.c.name == name).values(**gone))


def password_hash(tx: Connection, name: str) -> str | None:
    """Return the argon2id hash of a user who may log in; None for an unknown or disabled one."""
    return tx.execute(_PASSWORD_HASH, {"of_user": name}).scalar()


def is_enabled(tx: Connection, name: str) -> bool:
    return password_hash(tx, name) is not None


def set_password_hash(tx: Connection, name: str, password_hash: str) -> bool:
    """Return whether there is such a user."""
    return tx.execute(update(users).where(*_present(name)).values(password_hash=password_hash)).rowcount == 1


def set_disabled(tx: Connection, name: str, disabled: bool) -> bool:
    """Return whether there is such a user."""
    return tx.execute(update(users).where(*_present(name)).values(disabled=disabled)).rowcount == 1


def set_identity(tx: Connection, name: str, **values: str) -> bool:
    """Set `email`, `display_name` or both; return whether there is such a user."""
    return tx.execute(update(users).where(*_present(name)).values(values)).rowcount == 1


def _present(name: str) -> tuple[ColumnElement[bool], ...]:
    return users.c.name == name, users.c.removed.is_(None)
