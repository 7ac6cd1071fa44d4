"""Whatever JSON a peer sends, a parser answers with a value or a ProtocolError, never with anything else."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ocm.discovery import parse_discovery
from gateway.ocm.errors import (
    FieldError,
    Malformed,
    NotSupported,
    ProtocolError,
    SignatureInvalid,
    TokenError,
    Unauthorized,
    error_body,
)
from gateway.ocm.fields import DEPTH_MAX, decode_object, is_shallow
from gateway.ocm.keys import JWKSet
from gateway.ocm.notifications import parse_notification, serialise_notification
from gateway.ocm.shares import parse_share, parse_share_created, payload_digest
from gateway.ocm.tokens import parse_token_request, parse_token_response

NAMES = [
    "shareWith", "name", "providerId", "owner", "sender", "sharedBy", "shareType", "resourceType", "protocol", "webdav",
    "webapp", "ssh", "options", "uri", "sharedSecret", "permissions", "requirements", "targets", "expiration", "size",
    "encryption", "scheme", "notificationType", "senderDomain", "notification", "file", "user", "userId", "shareId",
    "enabled", "apiVersion", "endPoint", "resourceTypes", "shareTypes", "protocols", "capabilities", "jwksUri", "keys",
    "kid", "kty", "alg", "crv", "x", "n", "e", "use", "key_ops", "access_token", "token_type", "expires_in", "code",
    "grant_type", "client_id",
]  # fmt: skip
VALUES = [
    "user", "file", "multi", "webdav", "a@b.example", "https://a.example/", "must-use-mfa", "read", "SHARE_ACCEPTED",
    "USER_REMOVED", "1.4", "http-sig", "Ed25519", "OKP", "EC", "P-256", "ES256", "RSA", "RS256", "AQAB", "Bearer",
    "\x00", "\ud800", "\u202e", "@", "://", "[", "a@[", "https://[", "A" * 43,
]  # fmt: skip
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([10**400, -1, 0, 2**63]),
    st.floats(),
    st.text(max_size=10),
    st.sampled_from(VALUES),
)
names = st.sampled_from(NAMES) | st.text(max_size=5)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=8), max_leaves=15
)


def nested(kind: Callable[[Any], Any], depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = kind(value)
    return value


PARSERS: dict[str, Callable[[Any], Any]] = {
    "share": lambda body: payload_digest(parse_share(body)),
    "notification": parse_notification,
    "token response": parse_token_response,
    "share created": parse_share_created,
    "jwks": JWKSet.parse,
}


@given(values | st.dictionaries(names, values, max_size=12))
def test_any_value_is_read_or_refused(value: Any) -> None:
    """Only ProtocolError: never TypeError, KeyError, RecursionError or UnicodeError."""
    for name, parse in PARSERS.items():
        if name == "jwks" and not isinstance(value, dict):
            continue
        try:
            parse(value)
        except ProtocolError as error:
            str(error).encode()  # a log can be written
            json.dumps(error_body(error)).encode()


@given(st.dictionaries(names, values, max_size=12))
def test_a_share_with_anything_in_one_place_is_read_or_refused(share: Any, body: dict[str, Any]) -> None:
    """A valid share, overwritten in places: the deeper readers are reached, too."""
    for candidate in (
        share() | body,
        share(protocol={"name": "multi", "webdav": share()["protocol"]["webdav"] | body}),
        share(protocol={"name": "multi", "webapp": body, "ssh": body}),
        share(encryption={"resourceId": "r", "scheme": "x", "x": body}),
    ):
        with suppress(ProtocolError):
            assert len(payload_digest(parse_share(candidate))) == 64


@given(names, values)
def test_a_notification_that_is_read_can_be_sent_on(name: str, value: Any) -> None:
    body = {
        "notificationType": "SHARE_ACCEPTED",
        "resourceType": "file",
        "providerId": "1",
        "senderDomain": "a.example",
    }
    with suppress(ProtocolError):
        read = parse_notification(body | {name: value})
        if read.resource_type and read.sender_domain:
            assert parse_notification(serialise_notification(read)) == read


@given(values)
def test_any_document_is_a_discovery_or_refused(value: Any) -> None:
    body = json.dumps(value).encode() if not _is_huge(value) else b"{}"
    try:
        discovery = parse_discovery(body, "https://a.example/.well-known/ocm")
    except ProtocolError:
        return
    discovery.webdav_path("file")
    discovery.webdav_uri_form()
    discovery.receives("folder", "user", "webdav")


def _is_huge(value: Any) -> bool:
    try:
        json.dumps(value)
    except ValueError:
        return True
    return False


@given(st.binary(max_size=100) | st.text('{}[]":,0123456789enulltrue\\ud800', max_size=60).map(str.encode))
def test_any_bytes_are_an_object_or_refused(body: bytes) -> None:
    with suppress(Malformed):
        assert isinstance(decode_object(body), dict)
    for content_type in ("application/json", "application/x-www-form-urlencoded", "x"):
        with suppress(TokenError):
            assert parse_token_request(content_type, body).code


@pytest.mark.parametrize("kind", [lambda value: [value], lambda value: {"a": value}, lambda v: {"notification": v}])
@pytest.mark.parametrize("depth", [DEPTH_MAX + 1, 900, 100_000])
def test_nesting_is_bounded(kind: Callable[[Any], Any], depth: int) -> None:
    """A deep value is refused where it is decoded, and harmless to a parser that gets it all the same."""
    value = nested(kind, depth)
    assert not is_shallow(value)
    for parse in (parse_share, parse_notification, parse_token_response):
        with pytest.raises(ProtocolError):
            parse({"encryption": value, "protocol": {"name": "multi", "webdav": value}, "notification": value})
    text = b'{"a":' + b"[" * depth + b"]" * depth + b"}"
    with pytest.raises(Malformed) as caught:
        decode_object(text)
    assert caught.value.code == "INVALID_JSON"


def test_nesting_up_to_the_bound_is_read() -> None:
    assert is_shallow(nested(lambda value: [value], DEPTH_MAX))
    assert decode_object(json.dumps(nested(lambda value: {"a": value}, DEPTH_MAX)).encode())


def test_a_byte_order_mark_is_no_obstacle() -> None:
    assert decode_object(b'\xef\xbb\xbf{"a": 1}') == {"a": 1}


# --- how a refusal is told ------------------------------------------------------------------------------------------


def test_an_error_body_has_a_code_and_for_a_400_its_fields() -> None:
    """wire.md, Endpoints: {"message": CODE}, a 400 adds validationErrors [{name, message}]."""
    fields = (FieldError("shareWith", "REQUIRED"), FieldError("protocol.webdav.sharedSecret", "NOT_A_STRING"))
    assert error_body(Malformed("INVALID_SHARE", fields=fields)) == {
        "message": "INVALID_SHARE",
        "validationErrors": [
            {"name": "shareWith", "message": "REQUIRED"},
            {"name": "protocol.webdav.sharedSecret", "message": "NOT_A_STRING"},
        ],
    }
    assert error_body(Malformed("INVALID_JSON")) == {"message": "INVALID_JSON", "validationErrors": []}
    assert error_body(NotSupported("PROTOCOL_NOT_SUPPORTED", "a reason")) == {"message": "PROTOCOL_NOT_SUPPORTED"}


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Malformed("X"), 400),
        (TokenError("invalid_grant"), 400),
        (Unauthorized("X"), 401),
        (SignatureInvalid("X"), 401),
        (NotSupported("X"), 501),
    ],
)
def test_each_kind_of_error_hints_at_its_status(error: ProtocolError, status: int) -> None:
    assert error.status_hint == status


def test_an_error_is_a_sentence_for_the_log_with_its_fields() -> None:
    error = Malformed("INVALID_SHARE", fields=(FieldError("shareWith", "REQUIRED"),))
    assert str(error) == "unusable fields: shareWith (REQUIRED) [INVALID_SHARE]"
    assert str(NotSupported("X", "why")) == "why [X]"
    assert str(NotSupported("X")) == "X"
