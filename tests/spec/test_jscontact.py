"""Contacts as JSContact (RFC 9553; draft-07, JSContact Types, Properties and Enum Values)."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ocm.errors import Malformed
from gateway.ocm.jscontact import PROPERTY, Card, parse_cards, serialise_card

BOB = Card("bob@peer.example", "Bob Cat", "bob@uni.example", trusted=True, source="invite")
UID = "urn:uuid:2f5a0e4c-59b7-5d5b-9d0a-3d8a0e8f6b11"


def test_a_contact_is_a_card_with_its_ocm_address() -> None:
    """RFC 9553: @type, version and uid are mandatory; draft-07: the property, its keys and the words of `source`."""
    assert serialise_card(BOB, uid=UID, created=0) == {
        "@type": "Card",
        "version": "1.0",
        "uid": UID,
        "kind": "individual",
        "created": "1970-01-01T00:00:00Z",
        "name": {"full": "Bob Cat"},
        "emails": {"primary": {"address": "bob@uni.example"}},
        "ietf.org:ocmAddresses": {
            "primary": {"address": "bob@peer.example", "trusted": True, "source": "invite"},
        },
    }
    bare = serialise_card(Card("bob@peer.example", None, None), uid=UID, created=0)
    assert bare.keys() == {"@type", "version", "uid", "kind", "created", PROPERTY}
    assert bare[PROPERTY] == {"primary": {"address": "bob@peer.example", "trusted": False}}


def test_what_is_written_is_read_back() -> None:
    cards, without = parse_cards([serialise_card(BOB, uid=UID, created=0)])
    assert (cards, without) == ([Card(BOB.address, BOB.name, BOB.email, trusted=True)], 0)


def test_other_programs_cards_are_read() -> None:
    """Names in components, several addresses, properties that nobody here knows, and cards without an address."""
    card = {
        "@type": "Card",
        "version": "1.0",
        "name": {"components": [{"kind": "given", "value": "Carol"}, {"kind": "surname", "value": "Dee"}, 3]},
        "emails": {"e1": {"address": "carol@uni.example"}, "e2": {"address": "x@y"}},
        PROPERTY: {"work": {"address": "carol@https://A.example/"}, "home": {"address": "c@b.example"}, "bad": {}},
        "example.com:other": 1,
    }
    cards, without = parse_cards([card, {"@type": "Card", "name": "x", PROPERTY: []}])
    assert [(each.address, each.name, each.email) for each in cards] == [
        ("carol@a.example", "Carol Dee", "carol@uni.example"),
        ("c@b.example", "Carol Dee", "carol@uni.example"),
    ]
    assert not any(each.trusted for each in cards)
    assert without == 1


@pytest.mark.parametrize("document", [None, 1, "x", {}, [1], [{"@type": "Group"}], [{"@type": "Card"}, {}]])
def test_what_is_no_jscontact_is_refused(document: object) -> None:
    with pytest.raises(Malformed) as caught:
        parse_cards(document)
    assert caught.value.code == "NO_JSCONTACT"


leaves = st.none() | st.booleans() | st.integers() | st.text(max_size=9) | st.just("bob@peer.example")
anything = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["full", "address", "a"]), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["name", "emails", PROPERTY]), anything))
def test_any_card_is_read_without_harm(card: dict[str, Any]) -> None:
    with suppress(Malformed):
        cards, without = parse_cards(card | {"@type": "Card"})
        assert bool(cards) != bool(without)
