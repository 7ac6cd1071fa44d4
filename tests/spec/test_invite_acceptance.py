"""The Invite Acceptance Request and its Response (draft-07, Invite Flow; peers.md section 7)."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ocm.errors import Malformed
from gateway.ocm.invites import (
    InviteAcceptance,
    Party,
    address_of,
    parse_invite_acceptance,
    parse_party,
    serialise_invite_acceptance,
    serialise_party,
)
from gateway.ocm.secret import Secret

JSON, FORM = "application/json", "application/x-www-form-urlencoded"
TOKEN = "a55a966e-15c1-4cb9-a39d-4e4c54399baf"
BODY = {
    "recipientProvider": "peer.example",
    "token": TOKEN,
    "userID": "bob",
    "email": "bob@uni.example",
    "name": "Bob Cat",
}


def parsed(kind: str | None = JSON, **changes: Any) -> InviteAcceptance:
    return parse_invite_acceptance(kind, json.dumps(BODY | changes).encode())


def refused(**changes: Any) -> dict[str, str]:
    """Return the fields that are refused, with their codes."""
    with pytest.raises(Malformed) as caught:
        parsed(**changes)
    assert caught.value.code == "INVALID_INVITE_ACCEPTANCE"
    return {field.name: field.message for field in caught.value.fields}


def test_the_request_is_read_as_the_draft_writes_it() -> None:
    acceptance = parsed()
    assert acceptance == InviteAcceptance("peer.example", Secret(TOKEN), Party("bob", "bob@uni.example", "Bob Cat"))
    assert TOKEN not in repr(acceptance)
    assert parsed(None) == parsed("text/plain") == acceptance


def test_a_form_is_read_too() -> None:
    assert parse_invite_acceptance(f"{FORM}; charset=utf-8", urlencode(BODY).encode()) == parsed()
    for body in (b"\xff=1", b"token=a&token=b"):
        with pytest.raises(Malformed) as caught:
            parse_invite_acceptance(FORM, body)
        assert caught.value.code == "INVALID_FORM"


def test_what_is_informational_may_be_missing_and_is_cleaned() -> None:
    """draft-07: email is informational, name a suggestion; reva needs neither (peers.md section 7)."""
    party = parsed(email=None, name="Bob\u202e\n" + "x" * 500).party
    assert party.email is None
    assert party.name == "Bob" + "x" * 252


@pytest.mark.parametrize(
    ("changes", "mistakes"),
    [
        ({"token": None}, {"token": "REQUIRED"}),
        ({"userID": None}, {"userID": "REQUIRED"}),
        ({"recipientProvider": ""}, {"recipientProvider": "REQUIRED"}),
        ({"recipientProvider": "a/b"}, {"recipientProvider": "INVALID_ADDRESS"}),
        ({"userID": "bob\n"}, {"userID": "INVALID_CHARACTERS"}),
        ({"userID": "http://x"}, {"userID": "INVALID_ADDRESS"}),
        ({"token": 7, "email": []}, {"token": "NOT_A_STRING", "email": "NOT_A_STRING"}),
    ],
)
def test_what_cannot_be_used_is_named(changes: dict[str, Any], mistakes: dict[str, str]) -> None:
    assert refused(**changes) == mistakes


# What products send as userID, their server, and the address that their Shares come from (peers.md sections 2a and 7).
DIALECTS = {
    "reva": ("bob", "reva.example", "bob@reva.example"),
    "Nextcloud": ("bob", "nc.example", "bob@nc.example"),
    "OpenCloud": ("uuid@https://oc.example", "oc.example", "uuid@https://oc.example@oc.example"),
    "OpenCloud, with a port": ("uuid@https://oc.example:9200", "oc.example", "uuid@oc.example"),
    "oCIS": ("uuid@ocis.example", "ocis.example", "uuid@ocis.example@ocis.example"),
    "oCIS, with another identity provider": ("uuid@idp.example", "ocis.example", "uuid@idp.example@ocis.example"),
    "opencloudmesh-go": ("Ym9iQGdvLmV4YW1wbGU", "go.example", "Ym9iQGdvLmV4YW1wbGU@go.example"),
    "an e-mail address as id": ("bob@uni.example", "nc.example", "bob@uni.example@nc.example"),
    "a port of its own": ("bob@gw.example:8443", "gw.example:8443", "bob@gw.example:8443"),
}


@pytest.mark.parametrize("product", DIALECTS)
def test_the_contact_has_the_address_that_the_products_shares_come_from(product: str) -> None:
    """peers.md section 10, traps 16 and 21: `accept: contacts` compares exactly these two."""
    user_id, server, sender = DIALECTS[product]
    party = parsed(userID=user_id, recipientProvider=server).party
    assert party.user_id == user_id  # the raw value stays
    assert party.address(server) == address_of(sender)
    assert party.address(server).server == server


def test_user_ids_differ_by_case_and_servers_do_not() -> None:
    assert Party("Bob", None, None).address("peer.example") != address_of("bob@peer.example")
    assert Party("bob", None, None).address("peer.example") == address_of("bob@PEER.example")


def test_the_request_has_both_spellings_of_the_id() -> None:
    """Some builds of Nextcloud 32 read userId (peers.md section 7); all five strings are there."""
    body = serialise_invite_acceptance(parsed())
    assert body == BODY | {"userId": "bob"}
    assert parsed(userID=None, userId="bob") == parsed()


def test_the_response_is_read_as_it_is_written() -> None:
    party = Party("carol", "carol@gw.example", "Carol")
    assert parse_party(serialise_party(party), "gw.example") == party
    for body in ({}, {"userID": ""}, {"userID": "http://x"}, {"userID": ["x"]}):
        with pytest.raises(Malformed) as caught:
            parse_party(body, "gw.example")
        assert caught.value.code == "INVALID_INVITE_RESPONSE"


leaves = st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.lists(st.text(max_size=3), max_size=2)


@given(st.dictionaries(st.sampled_from([*BODY, "userId"]), leaves))
def test_any_object_is_read_or_refused(body: dict[str, Any]) -> None:
    with suppress(Malformed):
        acceptance = parse_invite_acceptance(JSON, json.dumps(body).encode())
        assert str(acceptance.party.address(acceptance.recipient_provider))
