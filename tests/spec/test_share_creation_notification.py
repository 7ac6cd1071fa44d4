"""The fields of a Share Creation Notification, and its answer (draft-07, Share Creation Notification; wire.md)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from gateway.ocm.errors import Malformed, NotSupported
from gateway.ocm.shares import (
    Permission,
    Secret,
    ShareCreated,
    ShareCreationNotification,
    WebdavProtocol,
    parse_share,
    parse_share_created,
    payload_digest,
    serialise_share_created,
)

Body = Callable[..., dict[str, Any]]
WEBDAV = {"uri": "id", "sharedSecret": "s3cret", "permissions": ["read"]}


def mistakes(body: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(Malformed) as caught:
        parse_share(body)
    assert caught.value.status_hint == 400
    return {field.name: field.message for field in caught.value.fields}


def test_the_draft_s_example_is_read(vectors: dict[str, Any]) -> None:
    """draft-07, Appendix B."""
    notification = parse_share(json.loads(vectors["share_creation_notification"]["body"]))
    assert notification == ShareCreationNotification(
        share_with="marie@receiver.example.org",
        name="spec.yaml",
        provider_id="7c084226-d9a1-11e6-bf26-cec0c932ce01",
        owner="einstein@sender.example.org",
        owner_display_name="Albert Einstein",
        sender="einstein@sender.example.org",
        sender_display_name="Albert Einstein",
        protocols=(
            WebdavProtocol(
                "spec.yaml", Secret("hfiuhworzwnur98d3wjiwhr"), frozenset({Permission.READ, Permission.WRITE})
            ),
        ),
    )


@pytest.mark.parametrize("name", ["shareWith", "name", "providerId", "owner", "shareType", "resourceType", "protocol"])
def test_a_required_field_that_is_missing_is_named(share: Body, name: str) -> None:
    """REQUIRED (draft-07, Fields): shareWith, name, providerId, owner, sender, shareType, resourceType, protocol."""
    for absent in (None, ""):
        body = share() | {name: absent}
        assert mistakes(body) == {name: "REQUIRED" if absent is None or name != "protocol" else "NOT_AN_OBJECT"}


def test_the_sender_is_required_but_old_products_name_it_otherwise(share: Body) -> None:
    """`sender`, else `sharedBy`, else `owner` (peers.md, section 2a)."""
    assert parse_share(share(sender=None, sharedBy="bob@sender.example.org")).sender == "bob@sender.example.org"
    assert parse_share(share(sender=None)).sender == "einstein@sender.example.org"
    assert mistakes(share(sender=None, owner=None)) == {"owner": "REQUIRED", "sender": "REQUIRED"}


def test_every_unusable_field_is_reported_at_once(share: Body) -> None:
    """A 400 lists each field with a code (wire.md, Endpoints)."""
    body = share(
        shareWith="nobody",
        name=["x"],
        providerId=True,
        owner="alice@/path",
        shareType=None,
        expiration=-1,
        protocol={"name": "multi", "webdav": {"permissions": ["fly"], "requirements": ["must-pay"], "size": "1"}},
    )
    assert mistakes(body) == {
        "shareWith": "INVALID_ADDRESS",
        "name": "NOT_A_STRING",
        "providerId": "NOT_A_STRING",
        "owner": "INVALID_ADDRESS",
        "shareType": "REQUIRED",
        "expiration": "OUT_OF_RANGE",
        "protocol.webdav.sharedSecret": "REQUIRED",
        "protocol.webdav.permissions": "UNKNOWN_PERMISSION",
        "protocol.webdav.requirements": "UNKNOWN_REQUIREMENT",
        "protocol.webdav.size": "NOT_AN_INTEGER",
    }


@pytest.mark.parametrize(("given_id", "read"), [(42, "42"), ("42", "42"), ("Zk3vQ8xT1mR7", "Zk3vQ8xT1mR7"), (0, "0")])
def test_provider_id_may_be_a_number(share: Body, given_id: object, read: str) -> None:
    """Nextcloud's may arrive as a number (peers.md, section 2a)."""
    assert parse_share(share(providerId=given_id)).provider_id == read


@pytest.mark.parametrize(
    ("given_id", "code"),
    [
        (1.5, "NOT_A_STRING"),
        (10**30, "NOT_A_STRING"),
        ({}, "NOT_A_STRING"),
        ("a\x00b", "INVALID_CHARACTERS"),
        ("a\ud800b", "INVALID_CHARACTERS"),
        ("x" * 1025, "TOO_LONG"),
    ],
)
def test_a_provider_id_that_cannot_be_kept_is_refused(share: Body, given_id: object, code: str) -> None:
    assert mistakes(share(providerId=given_id)) == {"providerId": code}


@pytest.mark.parametrize(("expiration", "read"), [(0, None), (None, None), (1_900_000_000, 1_900_000_000)])
def test_expiration_0_null_or_absent_is_never(share: Body, expiration: int | None, read: int | None) -> None:
    """reva and Seafile send 0 (peers.md, section 10, trap 27)."""
    assert parse_share(share() | {"expiration": expiration}).expiration == read


@pytest.mark.parametrize(
    ("expiration", "code"),
    [
        (-1, "OUT_OF_RANGE"),
        (1_900_000_000_000, "OUT_OF_RANGE"),
        (10**400, "OUT_OF_RANGE"),
        (1.9e9, "NOT_AN_INTEGER"),
        ("1900000000", "NOT_AN_INTEGER"),
        (True, "NOT_AN_INTEGER"),
        (float("nan"), "NOT_AN_INTEGER"),
    ],
)
def test_expiration_is_an_integer_of_seconds(share: Body, expiration: object, code: str) -> None:
    """Negative or not an integer -> 400 (wire.md); what no calendar has was meant as milliseconds."""
    assert mistakes(share(expiration=expiration)) == {"expiration": code}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"shareType": "federation"}, "SHARE_TYPE_NOT_SUPPORTED"),
        ({"shareType": "USER"}, "SHARE_TYPE_NOT_SUPPORTED"),
        ({"resourceType": "calendar"}, "RESOURCE_TYPE_NOT_SUPPORTED"),
        ({"protocol": {"name": "multi", "embedded": {}}}, "PROTOCOL_NOT_SUPPORTED"),
        ({"protocol": {"name": "Seafile API", "options": {"sharedSecret": "s"}}}, "PROTOCOL_NOT_SUPPORTED"),
        ({"protocol": {"name": "multi", "webapp": {"uriTemplate": "u", "viewMode": "v"}}}, "PROTOCOL_NOT_SUPPORTED"),
    ],
)
def test_an_unknown_kind_is_501(share: Body, changes: dict[str, Any], code: str) -> None:
    """501: the share type, the resource type or the protocol is not supported (draft-07, Response)."""
    with pytest.raises(NotSupported) as caught:
        parse_share(share(**changes))
    assert (caught.value.code, caught.value.status_hint) == (code, 501)


def test_text_for_people_is_cleaned(share: Body) -> None:
    """Text from another server is untrusted input (draft-07, Threat Model)."""
    notification = parse_share(
        share(name="a\u202eb\x1b\x00.pdf", description="one\ntwo\x1b[31m\ud800", ownerDisplayName="A\nB")
    )
    assert notification.name == "ab.pdf"
    assert notification.description == "one\ntwo[31m"
    assert notification.owner_display_name == "AB"


def test_a_name_of_nothing_that_is_shown_is_refused(share: Body) -> None:
    assert mistakes(share(name="\x00\u202e")) == {"name": "INVALID_CHARACTERS"}


def test_encryption_is_kept_and_checked(share: Body) -> None:
    """REQUIRED (draft-07, Fields, encryption): resourceId, scheme, and an object under the scheme's name."""
    encryption = {"resourceId": "r1", "scheme": "ocm-pgp", "ocm-pgp": {"fingerprints": ["AB"]}}
    assert parse_share(share(encryption=encryption)).encryption == encryption
    assert mistakes(share(encryption={"scheme": "ocm-pgp"})) == {
        "encryption.resourceId": "REQUIRED",
        "encryption.ocm-pgp": "REQUIRED",
    }
    deep: dict[str, Any] = {}
    for _ in range(2000):
        deep = {"a": deep}
    assert mistakes(share(encryption=encryption | {"more": deep})) == {"encryption": "INVALID_JSON"}


def test_the_same_share_has_the_same_digest_however_it_is_written(share: Body) -> None:
    """The same Share again: 201 unchanged (wire.md, Share Creation Notification)."""
    first = parse_share(share())
    again = share(
        owner="einstein@https://sender.example.org/",
        expiration=0,
        protocol={"name": "webdav", "options": None, "webdav": share()["protocol"]["webdav"] | {"requirements": []}},
    )
    assert payload_digest(parse_share(dict(reversed(again.items())))) == payload_digest(first)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "other.yaml"},
        {"shareWith": "pierre@receiver.example.org"},
        {"expiration": 1_900_000_000},
        {"resourceType": "folder"},
        {"description": "x"},
        {"protocol": {"name": "multi", "webdav": WEBDAV | {"sharedSecret": "other"}}},
        {"protocol": {"name": "multi", "webdav": WEBDAV | {"permissions": ["read", "write"]}}},
    ],
)
def test_any_difference_changes_the_digest(share: Body, changes: dict[str, Any]) -> None:
    """The same (sender host, providerId) with any difference: 409 (wire.md, Share Creation Notification)."""
    same = {"protocol": {"name": "multi", "webdav": WEBDAV}}
    assert payload_digest(parse_share(share(**same | changes))) != payload_digest(parse_share(share(**same)))


def test_the_answer_names_the_recipient_and_for_ssh_the_keys() -> None:
    """MUST (draft-07, Response): recipientDisplayName; recipientPublicKeys when the protocol was ssh."""
    assert serialise_share_created(ShareCreated("Marie")) == {"recipientDisplayName": "Marie"}
    created = ShareCreated("Marie", ("ssh-ed25519 AAAA",))
    assert serialise_share_created(created)["recipientPublicKeys"] == ["ssh-ed25519 AAAA"]
    assert parse_share_created(serialise_share_created(created)) == created


@pytest.mark.parametrize(
    ("body", "created"),
    [
        ([], ShareCreated(None)),
        (None, ShareCreated(None)),
        ({"recipientDisplayName": 7}, ShareCreated(None)),
        ({"recipientPublicKeys": "ssh-rsa AAAA"}, ShareCreated(None, ("ssh-rsa AAAA",))),
        ({"recipientPublicKeys": ["a", 7, "b\ncommand=x", " c "]}, ShareCreated(None, ("a", "c"))),
    ],
)
def test_any_answer_of_a_product_is_read(body: object, created: ShareCreated) -> None:
    """ownCloud answers `[]`; the keys are an array, accept a string (wire.md, Share Creation Notification)."""
    assert parse_share_created(body) == created


def test_a_notification_does_not_print_its_secret(share: Body) -> None:
    """Secrets never in logs, URLs, reprs or error messages."""
    read = parse_share(share())
    assert "hfiuhworzwnur98d3wjiwhr" not in repr(read)
    assert "hfiuhworzwnur98d3wjiwhr" not in str(read.protocols)
