"""Address books: whom local users know at other servers, and where each contact came from."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from gateway.errors import Conflict, Invalid, NoSuch
from gateway.ocm.address import OCMAddress
from gateway.ocm.errors import ProtocolError
from gateway.ocm.invites import address_of
from gateway.ocm.jscontact import Card, parse_cards, serialise_card
from gateway.ocm.jscontact import Source as CardSource
from gateway.store import contacts, events
from gateway.store.contacts import Contact, Source
from gateway.store.engine import Store

CARD_SOURCES: Mapping[str, CardSource] = {
    Source.INVITE_SENT: "invite",
    Source.INVITE_ACCEPTED: "invite",
    Source.BY_HAND: "direct entry",
}


@dataclass(frozen=True, slots=True)
class Imported:
    """How many contacts are new, were there before, and could not be used: no OCM Address, or one of this server."""

    new: int
    known: int
    unusable: int


class Contacts:
    """The user's gestures on an address book."""

    def __init__(self, store: Store, *, server: str, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._server = server
        self._clock = clock

    async def everyone(self, user: str | None) -> list[Contact]:
        """Return the contacts of `user`, or everybody's."""
        return await self._store.read(lambda tx: contacts.of_user(tx, user))

    async def show(self, user: str, address: str) -> Contact:
        """Return one contact; raises Invalid, NoSuch."""
        wanted = str(self._address(address))
        contact = await self._store.read(lambda tx: contacts.get(tx, user, wanted))
        if contact is None:
            raise _no_such(wanted)
        return contact

    async def add(self, user: str, address: str, name: str | None, email: str | None, actor: str) -> Contact:
        """Enter a contact by hand; raises Invalid, Conflict for one that is there."""
        card = Card(str(self._address(address)), name, email)
        contact = self._contact(user, card, Source.BY_HAND, auto_accept=False)

        def work(tx: Connection) -> None:
            if not contacts.add(tx, contact):
                raise Conflict("CONTACT_EXISTS", f"{contact.address} is a contact already")
            self._note(tx, "contact.add", contact.address, actor, user)

        await self._store.run(work)
        return contact

    async def remove(self, user: str, address: str, actor: str) -> None:
        """Forget a contact; what was shared stays. The other side is not told (draft-07). Raises Invalid, NoSuch."""
        wanted = str(self._address(address))

        def work(tx: Connection) -> None:
            if not contacts.remove(tx, user, wanted):
                raise _no_such(wanted)
            self._note(tx, "contact.remove", wanted, actor, user)

        await self._store.run(work)

    async def set_auto_accept(self, user: str, address: str, auto_accept: bool, actor: str) -> Contact:
        """Say whether what the contact shares from now on is accepted without asking; raises Invalid, NoSuch."""
        wanted = str(self._address(address))

        def work(tx: Connection) -> None:
            if not contacts.set_auto_accept(tx, user, wanted, auto_accept):
                raise _no_such(wanted)
            self._note(tx, "contact.auto-accept", wanted, actor, user, on=auto_accept)

        await self._store.run(work)
        return await self.show(user, address)

    async def export(self, user: str) -> list[dict[str, Any]]:
        """Return the address book as Cards of JSContact (RFC 9553)."""
        return [_card(contact) for contact in await self.everyone(user)]

    async def take_in(self, user: str, document: object, actor: str, *, trusted: bool = False) -> Imported:
        """Add the contacts of a JSContact document; those that are there stay as they are.

        Only with `trusted` is it believed whose Shares are accepted without asking: a file may come from anybody.
        Raises Invalid.
        """
        try:
            cards, without = parse_cards(document)
        except ProtocolError as error:
            raise Invalid(error.code, error.reason) from error
        usable = [card for card in cards if OCMAddress.parse(card.address).server != self._server]
        met = [self._contact(user, card, Source.IMPORTED, auto_accept=trusted and card.trusted) for card in usable]

        def work(tx: Connection) -> int:
            new = sum(contacts.add(tx, contact) for contact in met)
            self._note(tx, "contact.import", user, actor, user, new=new)
            return new

        new = await self._store.run(work)
        return Imported(new, len(met) - new, without + len(cards) - len(usable))

    def _address(self, raw: str) -> OCMAddress:
        """Return the address of somebody at another server; raises Invalid."""
        try:
            address = address_of(raw)
        except ProtocolError as error:
            raise Invalid("INVALID_ADDRESS", error.reason) from error
        if address.server == self._server:
            raise Invalid("SAME_SERVER", f"{address} is here; contacts are people at other servers")
        return address

    def _contact(self, user: str, card: Card, source: Source, *, auto_accept: bool) -> Contact:
        return Contact(
            user=user,
            address=card.address,
            user_id=OCMAddress.parse(card.address).identifier,
            name=card.name,
            email=card.email,
            source=source,
            verified=False,
            auto_accept=auto_accept,
            created=int(self._clock()),
        )

    def _note(self, tx: Connection, action: str, subject: str, actor: str, user: str, **detail: Any) -> None:
        events.add(tx, at=int(self._clock()), actor=actor, action=action, subject=subject, user=user, **detail)


def _card(contact: Contact) -> dict[str, Any]:
    source = CARD_SOURCES.get(contact.source)
    card = Card(contact.address, contact.name, contact.email, contact.auto_accept, source)
    # The same each time, so that whoever imports it again does not see somebody new (RFC 9553, uid; RFC 9562 §5.5).
    uid = uuid.uuid5(uuid.NAMESPACE_URL, f"ocm:{contact.address}")
    return serialise_card(card, uid=uid.urn, created=contact.created)


def _no_such(address: str) -> NoSuch:
    return NoSuch("NO_SUCH_CONTACT", f"{address} is no contact; `contact list` shows who is")
