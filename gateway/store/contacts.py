"""The address books of local users, by OCM Address."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from enum import StrEnum

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from gateway.ocm.address import OCMAddress
from gateway.store.tables import contacts


class Source(StrEnum):
    """Where a contact came from."""

    INVITE_SENT = "invite sent"
    INVITE_ACCEPTED = "invite accepted"
    IMPORTED = "imported"
    BY_HAND = "by hand"


@dataclass(frozen=True, slots=True)
class Contact:
    user: str
    address: str
    user_id: str
    name: str | None
    email: str | None
    source: str
    verified: bool
    auto_accept: bool
    created: int


_COLUMNS = tuple(contacts.c[field.name] for field in fields(Contact))
_GET = select(*_COLUMNS).where(contacts.c.user == bindparam("of_user"), contacts.c.address == bindparam("at"))


def get(tx: Connection, user: str, address: str) -> Contact | None:
    row = tx.execute(_GET, {"of_user": user, "at": address}).first()
    return Contact(*row) if row else None


def of_user(tx: Connection, user: str | None) -> list[Contact]:
    """Return the contacts of `user`, or of everybody, by address."""
    query = select(*_COLUMNS).order_by(contacts.c.address, contacts.c.user)
    return [Contact(*row) for row in tx.execute(query if user is None else query.where(contacts.c.user == user))]


def add(tx: Connection, contact: Contact) -> bool:
    """Return False, and change nothing, where the user has the address already."""
    if get(tx, contact.user, contact.address):
        return False
    tx.execute(insert(contacts).values(asdict(contact) | {"server": OCMAddress.parse(contact.address).server}))
    return True


def meet(tx: Connection, contact: Contact) -> None:
    """Add the contact that an invite has made; of one that was there, what the user has decided stays.

    So does what the contact's own server has said of it, where this is only claimed.
    """
    if not add(tx, contact):
        known = contacts.c.user == contact.user, contacts.c.address == contact.address
        said = {"user_id": contact.user_id, "name": contact.name, "email": contact.email, "verified": contact.verified}
        open_to_it = () if contact.verified else (contacts.c.verified.is_(False),)
        tx.execute(update(contacts).where(*known, *open_to_it).values(said))


def set_auto_accept(tx: Connection, user: str, address: str, auto_accept: bool) -> bool:
    """Return whether the user has such a contact."""
    known = contacts.c.user == user, contacts.c.address == address
    return tx.execute(update(contacts).where(*known).values(auto_accept=auto_accept)).rowcount == 1


def remove(tx: Connection, user: str, address: str) -> bool:
    """Return whether there was such a contact."""
    known = contacts.c.user == user, contacts.c.address == address
    return tx.execute(delete(contacts).where(*known)).rowcount == 1


def remove_of(tx: Connection, user: str) -> None:
    """Empty the address book of a user."""
    tx.execute(delete(contacts).where(contacts.c.user == user))


def remove_everywhere(tx: Connection, address: str) -> None:
    """Take somebody out of every address book."""
    tx.execute(delete(contacts).where(contacts.c.address == address))
