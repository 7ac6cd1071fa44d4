"""The discovery document (draft-07, Discovery; wire.md, Discovery; peers.md, section 1)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.ocm.discovery import Discovery, describe, legacy_version_for, parse_discovery
from gateway.ocm.errors import Malformed

URL = "https://cloud.example/.well-known/ocm"
FILE = {"name": "file", "shareTypes": ["user"], "protocols": {"webdav": "/dav/ocm/"}}
OURS = {
    "public_url": "https://gw.example",
    "provider": "Gateway",
    "capabilities": ["exchange-token", "http-sig", "invites", "notifications", "protocol-object"],
    "token_end_point": "https://gw.example/ocm/token",
    "jwks_uri": "https://gw.example/ocm/jwks",
    "invite_accept_dialog": "https://gw.example/accept-invite",
}


def read(base_url: str = URL, **members: Any) -> Discovery:
    document = {
        "enabled": True,
        "apiVersion": "1.5.0",
        "endPoint": "https://cloud.example/ocm",
        "resourceTypes": [FILE],
    } | members
    return parse_discovery(json.dumps(document).encode(), base_url)


@pytest.mark.parametrize("name", ["enabled", "apiVersion", "endPoint", "resourceTypes"])
def test_the_four_required_fields_are_required(name: str) -> None:
    """REQUIRED (draft-07, Discovery, Fields): enabled, apiVersion, endPoint, resourceTypes."""
    with pytest.raises(Malformed) as caught:
        read(**{name: None})
    assert caught.value.code == "INVALID_DISCOVERY"
    assert [(field.name, field.message) for field in caught.value.fields] == [(name, "REQUIRED")]


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"enabled": "yes"}, "NOT_A_BOOLEAN"),
        ({"apiVersion": 1.5}, "NOT_A_STRING"),
        ({"endPoint": "ftp://cloud.example/ocm"}, "INVALID_URL"),
        ({"endPoint": "https://user:password@cloud.example/ocm"}, "INVALID_URL"),
        ({"endPoint": "https://cloud.example:99999/ocm"}, "INVALID_URL"),
        ({"endPoint": "https://[::1/ocm"}, "INVALID_URL"),
        ({"endPoint": "https:///ocm"}, "INVALID_URL"),
        ({"endPoint": "//[::1/ocm"}, "INVALID_URL"),
        ({"endPoint": "https://cloud.example/o\r\ncm"}, "INVALID_URL"),
        ({"resourceTypes": "file"}, "NOT_A_LIST"),
    ],
)
def test_required_fields_that_make_no_sense_are_refused(members: dict[str, Any], code: str) -> None:
    with pytest.raises(Malformed) as caught:
        read(**members)
    assert [field.message for field in caught.value.fields] == [code]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "INVALID_JSON"),
        (b"<html>", "INVALID_JSON"),
        (b"\xff", "INVALID_JSON"),
        (b'{"enabled":NaN}', "INVALID_JSON"),
        (b'{"enabled":true,"enabled":false}', "INVALID_JSON"),
        (b"[" * 100_000, "INVALID_JSON"),
        (b'{"a":' * 40 + b"1" + b"}" * 40, "INVALID_JSON"),
        (b'{"a":' + b"9" * 5000 + b"}", "INVALID_JSON"),
        (b"[]", "NOT_AN_OBJECT"),
    ],
)
def test_what_is_no_document_is_refused(body: bytes, code: str) -> None:
    with pytest.raises(Malformed) as caught:
        parse_discovery(body, URL)
    assert caught.value.code == code


def test_a_peer_that_is_switched_off_needs_to_say_no_more() -> None:
    discovery = read(enabled=False, endPoint=None, resourceTypes=None)
    assert not discovery.enabled
    assert discovery.end_point == ""


def test_relative_urls_are_relative_to_where_the_document_was_found() -> None:
    discovery = read(endPoint="/ocm", inviteAcceptDialog="/index.php/apps/sciencemesh/accept")
    assert discovery.end_point == "https://cloud.example/ocm"
    assert discovery.invite_accept_dialog == "https://cloud.example/index.php/apps/sciencemesh/accept"


def test_optional_fields_that_make_no_sense_count_as_absent() -> None:
    discovery = read(
        provider=7,
        capabilities="http-sig",
        criteria={"a": 1},
        inviteAcceptDialog="javascript:alert(1)",
        jwksUri="file:///etc/passwd",
        tokenEndPoint=["https://cloud.example/token"],
    )
    assert discovery.provider is None
    assert discovery.capabilities == discovery.criteria == frozenset()
    assert discovery.invite_accept_dialog is discovery.jwks_uri is discovery.token_end_point is None


def test_a_token_end_point_needs_the_capability() -> None:
    """A peer's stray tokenEndPoint without `exchange-token` is ignored (wire.md, Discovery)."""
    url = "https://cloud.example/ocm/token"
    assert read(tokenEndPoint=url).token_end_point is None
    assert read(tokenEndPoint=url, capabilities=["exchange-token"]).token_end_point == url


def test_jwks_uri_may_be_on_another_host() -> None:
    """MAY (draft-07, Discovery, Fields): jwksUri may refer to a different host."""
    assert read(jwksUri="https://keys.example/jwks").jwks_uri == "https://keys.example/jwks"


@pytest.mark.parametrize(
    ("version", "capabilities", "expected"),
    [
        ("1.3.0", ["http-sig"], "https://cloud.example/.well-known/jwks.json"),
        ("1.4", ["/http-sig"], "https://cloud.example/.well-known/jwks.json"),
        ("1.5.0", ["http-sig"], None),
        ("1.10.0", ["http-sig"], None),
        ("1.1.2", ["http-sig"], None),
        ("1.0-proposal1", ["http-sig"], None),
        ("1.4.0", [], None),
    ],
)
def test_peers_of_1_3_and_1_4_have_a_default_place_for_keys(
    version: str, capabilities: list[str], expected: str | None
) -> None:
    """jwksUri is REQUIRED with http-sig; peers of 1.3 and 1.4 without it: /.well-known/jwks.json (wire.md)."""
    assert read(apiVersion=version, capabilities=capabilities).jwks_uri == expected


def test_old_names_of_capabilities_and_criteria_are_understood() -> None:
    """wire.md, Discovery: leading slashes, /mfa-capable, http-request-signatures, token-exchange, invite."""
    discovery = read(
        capabilities=["/invite-accepted", "/Notifications", "/mfa-capable", "protocol-object", 5],
        criteria=["http-request-signatures", "token-exchange", "invite", "denylist"],
    )
    assert discovery.capabilities == {"invite-accepted", "notifications", "enforce-mfa", "protocol-object"}
    assert discovery.criteria == {"must-use-http-sig", "must-exchange-token", "must-invite", "denylist"}


def test_owncloud_10_is_understood() -> None:
    """ownCloud 10 has its list under `shareTypes` and no `resourceTypes` (peers.md, section 1)."""
    body = {
        "enabled": True,
        "apiVersion": "1.0-proposal1",
        "endPoint": "https://oc.example/index.php/apps/federatedfilesharing",
        "shareTypes": [{"name": "file", "protocols": {"webdav": "/public.php/webdav/"}}],
    }
    discovery = parse_discovery(json.dumps(body).encode(), "https://oc.example/ocm-provider/")
    assert discovery.webdav_path("file") == "/public.php/webdav/"
    assert discovery.webdav_uri_form() == "absolute"
    assert discovery.receives("file", "user", "webdav")
    assert not discovery.receives("folder", "user", "webdav")


def test_nextcloud_is_understood() -> None:
    """Nextcloud's `file` stands for both types, takes groups, and publishes a key for draft-cavage (peers.md, 1)."""
    key = {"keyId": "https://nc.example/ocm#signature", "publicKeyPem": "PEM"}
    entry = {"name": "file", "shareTypes": ["user", "group"], "protocols": {"webdav": "/public.php/webdav/"}}
    discovery = read(apiVersion="1.0-proposal1", version="1.1.0", resourceTypes=[entry], publicKey=key)
    assert discovery.receives("file", "group", "webdav")
    assert discovery.public_key == key
    assert discovery.raw["version"] == "1.1.0"


def test_seafile_is_understood() -> None:
    """Seafile's native mode has one object instead of a list; its webdav path has no slash (peers.md, section 1)."""
    discovery = read(resourceTypes={"name": "library", "protocols": {"webdav": "seafdav"}})
    assert discovery.webdav_path("file") == "seafdav"


def test_only_what_is_advertised_is_received_beside_the_implied_combination() -> None:
    """SHOULD NOT (draft-07, Share Creation Notification): the `-receive` property of the entry decides."""
    folder = {"name": "folder", "shareTypes": ["user"], "protocols": {"webdav": "/x", "webdav-receive": {}}}
    ssh = {"name": "file", "shareTypes": ["user"], "protocols": {"webdav": "/x", "ssh": "h:22"}}
    discovery = read(resourceTypes=[ssh, folder])
    assert discovery.receives("file", "user", "webdav")
    assert discovery.receives("folder", "user", "webdav")
    assert not discovery.receives("folder", "group", "webdav")
    assert not discovery.receives("file", "user", "ssh")
    assert not discovery.receives("file", "group", "webdav")


def test_the_webdav_path_is_the_same_in_every_entry() -> None:
    """draft-07, Resource Access: resourceTypes[0].protocols.webdav; an entry without one borrows it."""
    entries = [FILE, {"name": "folder", "shareTypes": ["user"], "protocols": {"webdav": {"an": "object"}}}]
    assert read(resourceTypes=entries).webdav_path("folder") == "/dav/ocm/"
    assert read(resourceTypes=[]).webdav_path("file") is None


@pytest.mark.parametrize(
    ("receive", "form"),
    [({"uri": "relative"}, "relative"), ({"uri": "absolute"}, "absolute"), ({}, "absolute"), (None, "absolute")],
)
def test_the_uri_is_sent_as_the_peer_wants_it_and_absolute_where_it_says_nothing(receive: object, form: str) -> None:
    """wire.md, Share Creation Notification: `uri` is sent as the peer's webdav-receive.uri says."""
    protocols = {"webdav": "/dav/ocm/", "webdav-receive": receive}
    discovery = read(resourceTypes=[FILE | {"protocols": protocols}])
    assert discovery.webdav_uri_form() == form


def test_our_document_is_the_one_that_satisfies_all_products() -> None:
    """peers.md, section 1: the document that satisfies all of them."""
    protocols = {"webdav": "/dav/ocm/", "webdav-receive": {"uri": "relative"}, "ssh-receive": {}}
    assert describe(**OURS) == {
        "enabled": True,
        "apiVersion": "1.5.0",
        "version": "1.5.0",
        "provider": "Gateway",
        "endPoint": "https://gw.example/ocm",
        "resourceTypes": [
            {"name": "file", "shareTypes": ["user"], "protocols": protocols},
            {"name": "folder", "shareTypes": ["user"], "protocols": protocols},
        ],
        "capabilities": ["exchange-token", "http-sig", "invites", "notifications", "protocol-object"],
        "inviteAcceptDialog": "https://gw.example/accept-invite",
        "tokenEndPoint": "https://gw.example/ocm/token",
        "jwksUri": "https://gw.example/ocm/jwks",
    }


def test_our_document_reads_back_as_what_it_says() -> None:
    discovery = parse_discovery(json.dumps(describe(**OURS)).encode(), "https://gw.example/.well-known/ocm")
    assert discovery.token_end_point == OURS["token_end_point"]
    assert discovery.jwks_uri == OURS["jwks_uri"]
    assert discovery.webdav_uri_form() == "relative"
    assert discovery.receives("folder", "user", "webdav")
    assert discovery.criteria == frozenset()


def test_our_urls_carry_the_path_of_public_url() -> None:
    """`public_url` may hold a path, which the DAV path and the end point then carry."""
    document = describe(**OURS | {"public_url": "https://gw.example/site/"})
    assert document["endPoint"] == "https://gw.example/site/ocm"
    assert document["resourceTypes"][0]["protocols"]["webdav"] == "/site/dav/ocm/"


def test_objects_among_the_protocols_can_be_left_out() -> None:
    """OpenCloud's WAYF client fails on any value that is no string (peers.md, section 10, trap 6)."""
    document = describe(**OURS, object_values=False)
    assert document["resourceTypes"][0]["protocols"] == {"webdav": "/dav/ocm/"}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"token_end_point": None}, "exchange-token is advertised without its URL"),
        ({"jwks_uri": None}, "http-sig is advertised without its URL"),
        ({"capabilities": [], "criteria": ["must-exchange-token"]}, "without being able to exchange"),
    ],
)
def test_a_capability_is_advertised_with_its_url_and_a_criterion_with_its_capability(
    changes: dict[str, Any], sentence: str
) -> None:
    """MUST (draft-07, Discovery, Fields): tokenEndPoint with exchange-token, jwksUri with http-sig, and the criterion
    must-exchange-token only with the capability."""
    with pytest.raises(ValueError, match=sentence):
        describe(**OURS | changes)


def test_urls_without_their_capability_are_not_shown() -> None:
    """ocm-go refuses a tokenEndPoint without exchange-token (peers.md, section 10, trap 7)."""
    document = describe(**OURS | {"capabilities": []})
    assert not {"tokenEndPoint", "jwksUri", "inviteAcceptDialog", "criteria"} & set(document)


@pytest.mark.parametrize(
    ("user_agent", "version"),
    [
        ("Nextcloud Server Crawler", "1.1"),
        ("Nextcloud-Server-Crawler/34.0.0", None),
        ("nextcloud server crawler", None),
        ("Nextcloud Server Crawler ", None),
        ("", None),
        (None, None),
    ],
)
def test_only_the_old_nextcloud_client_is_shown_an_old_version(user_agent: str | None, version: str | None) -> None:
    """Nextcloud 26 to 31 refuse a newer version than 1.1 (peers.md, section 10, trap 3)."""
    assert legacy_version_for(user_agent) == version
