"""Contacts as JSContact Cards (RFC 9553) with their OCM Addresses (draft-07, JSContact Types and Properties)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from gateway.ocm.address import OCMAddress
from gateway.ocm.errors import Malformed
from gateway.ocm.text import line

PROPERTY = "ietf.org:ocmAddresses"
Source = Literal["invite", "share", "direct entry"]  # draft-07, JSContact Enum Values

_TEXT_MAX = 255  # characters


@dataclass(frozen=True, slots=True)
class Card:
    """One person at one OCM Address; `trusted`: what they share is accepted without asking."""

    address: str
    name: str | None
    email: str | None
    trusted: bool = False
    source: Source | None = None


def serialise_card(card: Card, *, uid: str, created: int) -> dict[str, Any]:
    """Return the Card; `uid` is the same for the same contact each time, `created` in seconds since the epoch."""
    ocm_address = {"address": card.address, "trusted": card.trusted, "source": card.source}
    optional = {
        "name": {"full": card.name} if card.name else None,
        "emails": {"primary": {"address": card.email}} if card.email else None,
    }
    return {
        "@type": "Card",
        "version": "1.0",
        "uid": uid,
        "kind": "individual",
        "created": datetime.fromtimestamp(created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        **{name: value for name, value in optional.items() if value},
        PROPERTY: {"primary": {name: value for name, value in ocm_address.items() if value is not None}},
    }


def parse_cards(document: object) -> tuple[list[Card], int]:
    """Read one Card or a list of them; return one Card for each OCM Address, and how many Cards have none.

    Raises Malformed("NO_JSCONTACT") when it is neither.
    """
    items = document if isinstance(document, list) else [document]
    cards = [item for item in items if isinstance(item, Mapping) and item.get("@type") == "Card"]
    if len(cards) != len(items):
        raise Malformed("NO_JSCONTACT", "not a Card of JSContact (RFC 9553), nor a list of them")
    found = [list(_addresses(card)) for card in cards]
    return [one for several in found for one in several], sum(not several for several in found)


def _addresses(card: Mapping[str, Any]) -> Iterator[Card]:
    name, email = _text(_name(card)), _text(_first(card.get("emails")).get("address"))
    for value in _members(card.get(PROPERTY)):
        try:
            address = OCMAddress.normalise(str(value.get("address")))
        except Malformed:
            continue
        yield Card(str(address), name, email, value.get("trusted") is True)


def _name(card: Mapping[str, Any]) -> object:
    """Return the full name, or its components in their order (RFC 9553, name)."""
    name = card.get("name")
    if not isinstance(name, Mapping) or name.get("full"):
        return name.get("full") if isinstance(name, Mapping) else None
    components = name.get("components")
    parts = components if isinstance(components, list) else []
    return " ".join(part["value"] for part in parts if isinstance(part, Mapping) and isinstance(part.get("value"), str))


def _members(value: object) -> list[Mapping[str, Any]]:
    return [member for member in value.values() if isinstance(member, Mapping)] if isinstance(value, Mapping) else []


def _first(value: object) -> Mapping[str, Any]:
    return next(iter(_members(value)), {})


def _text(value: object) -> str | None:
    return line(value)[:_TEXT_MAX].strip() or None if isinstance(value, str) else None
