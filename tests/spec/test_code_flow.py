"""Token requests and responses (draft-07, Code Flow; wire.md, Code Flow; RFC 6749)."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ocm.digests import content_digest
from gateway.ocm.errors import Malformed, TokenError, error_body
from gateway.ocm.secret import Secret
from gateway.ocm.tokens import (
    GRANT_TYPES,
    TokenRequest,
    TokenResponse,
    parse_token_request,
    parse_token_response,
    serialise_token_request,
)

FORM = "application/x-www-form-urlencoded"
BODY = b"grant_type=authorization_code&client_id=receiver.example.org&code=my_secret_code"
REQUEST = TokenRequest("authorization_code", "receiver.example.org", Secret("my_secret_code"))


def refused(content_type: str | None, body: bytes) -> str:
    with pytest.raises(TokenError) as caught:
        parse_token_request(content_type, body)
    assert caught.value.status_hint == 400
    assert "my_secret_code" not in str(caught.value)
    return caught.value.code


def test_the_draft_s_example_is_what_is_sent_and_read(vectors: dict[str, Any]) -> None:
    """MUST (draft-07, Token Request): x-www-form-urlencoded, client_id is the FQDN, code is the sharedSecret."""
    vector = vectors["token_request_digest"]
    body = serialise_token_request(REQUEST)
    assert body == vector["body"].encode() == BODY
    assert str(len(body)) == vector["Content-Length"]
    assert content_digest(body) == vector["Content-Digest"]
    assert parse_token_request(FORM, body) == REQUEST


@pytest.mark.parametrize("content_type", [FORM, f"{FORM}; charset=utf-8", FORM.upper(), "", None])
def test_a_form_is_read_whatever_its_type_is_written_like(content_type: str | None) -> None:
    assert parse_token_request(content_type, BODY) == REQUEST


def test_json_is_read_too() -> None:
    """Accept form and JSON (peers.md, section 8)."""
    body = json.dumps({"grant_type": "ocm_authorization_code", "code": "c", "client_id": "r.example"}).encode()
    assert parse_token_request("application/json;charset=UTF-8", body).grant_type == "ocm_authorization_code"


@pytest.mark.parametrize("grant_type", sorted(GRANT_TYPES))
def test_the_grant_types_of_older_peers_are_taken(grant_type: str) -> None:
    """authorization_code, ocm_share, ocm_authorization_code (peers.md, section 8)."""
    assert parse_token_request(FORM, f"grant_type={grant_type}&code=c".encode()).grant_type == grant_type


def test_another_grant_type_is_unsupported() -> None:
    """draft-07, Error Responses: unsupported_grant_type."""
    assert refused(FORM, b"grant_type=client_credentials&code=c") == "unsupported_grant_type"


def test_other_parameters_are_ignored() -> None:
    """MUST (draft-07, Token Request): additional parameters of RFC 6749 are ignored."""
    assert parse_token_request(FORM, BODY + b"&redirect_uri=https%3A%2F%2Fx%2F&client_secret=y") == REQUEST


def test_a_client_id_may_be_absent_or_a_url() -> None:
    """reva signs nothing, and its client_id may be absent or a URL (wire.md, Code Flow)."""
    assert parse_token_request(FORM, b"grant_type=ocm_share&code=c").client_id is None
    request = parse_token_request(FORM, b"grant_type=ocm_share&code=c&client_id=https%3A%2F%2Freva.example%2F")
    assert request.client_id == "https://reva.example/"


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (FORM, b""),
        (FORM, b"code=my_secret_code"),
        (FORM, b"grant_type=authorization_code"),
        (FORM, b"grant_type=authorization_code&code="),
        (FORM, BODY + b"&code=other"),
        (FORM, BODY + b"&code=my_secret_code"),
        (FORM, BODY + b"&client_id=other.example"),
        (FORM, BODY + b"&scope=a&scope=a"),
        (FORM, b"grant_type=authorization_code&code=%ff"),
        (FORM, b"\xff\xfe"),
        (FORM, b"grant_type=authorization_code&code=a%0Ab"),
        (FORM, b"&".join(b"p%d=1" % number for number in range(1000))),
        ("application/json", BODY),
        ("application/json", b"[]"),
        ("application/json", b'{"grant_type":"authorization_code","code":{}}'),
        ("application/json", b'{"grant_type":"authorization_code","code":"my_secret_code","code":"b"}'),
        ("text/plain", BODY),
        ("multipart/form-data; boundary=x", BODY),
    ],
)
def test_an_invalid_request_is_refused_as_one(content_type: str, body: bytes) -> None:
    """RFC 6749 section 5.2: a parameter is missing or repeated, or the request is otherwise malformed."""
    assert refused(content_type, body) == "invalid_request"


def test_a_refusal_is_an_oauth_error() -> None:
    """MUST (draft-07, Error Responses): 400 with {"error": code}."""
    assert error_body(TokenError("invalid_grant")) == {"error": "invalid_grant"}


codes = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=60).map(Secret)


@given(st.builds(TokenRequest, st.sampled_from(sorted(GRANT_TYPES)), st.sampled_from([None, "r.example:8443"]), codes))
def test_what_is_sent_is_read_as_the_same(request: TokenRequest) -> None:
    """Serialise, then parse: whatever the secret holds, also `&`, `=`, `+` and `%`."""
    assert parse_token_request(FORM, serialise_token_request(request)) == request


def test_a_response_has_token_type_and_life() -> None:
    """MUST (draft-07, Token Response): access_token, token_type Bearer, expires_in; no refresh token."""
    response = TokenResponse(Secret("8f3d3f26"), 300)
    assert response.serialise() == {"access_token": "8f3d3f26", "token_type": "Bearer", "expires_in": 300}
    assert parse_token_response(response.serialise()) == response
    assert "8f3d3f26" not in repr(response)


@pytest.mark.parametrize(
    ("changes", "life"), [({}, 3600), ({"expires_in": None}, 300), ({"token_type": "bearer"}, 3600), ({"x": 1}, 3600)]
)
def test_responses_of_products_are_read(changes: dict[str, Any], life: int) -> None:
    """RFC 6749 section 5.1: expires_in is recommended; section 7.1: the case of token_type does not count."""
    body = {"access_token": "t", "token_type": "Bearer", "expires_in": 3600} | changes
    assert parse_token_response(body).expires_in == life


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"access_token": None}, "access_token"),
        ({"access_token": "a\r\nX-Injected: 1"}, "access_token"),
        ({"access_token": 7}, "access_token"),
        ({"token_type": None}, "token_type"),
        ({"token_type": "mac"}, "token_type"),
        ({"expires_in": 0}, "expires_in"),
        ({"expires_in": -5}, "expires_in"),
        ({"expires_in": "300"}, "expires_in"),
        ({"expires_in": True}, "expires_in"),
    ],
)
def test_a_response_that_cannot_be_used_is_refused(changes: dict[str, Any], name: str) -> None:
    with pytest.raises(Malformed) as caught:
        parse_token_response({"access_token": "t", "token_type": "Bearer", "expires_in": 3600} | changes)
    assert caught.value.code == "INVALID_TOKEN_RESPONSE"
    assert [field.name for field in caught.value.fields] == [name]


def test_a_secret_is_compared_and_hashed_by_what_it_holds() -> None:
    assert Secret("a") == Secret("a") != Secret("b")
    assert {Secret("a"), Secret("a")} == {Secret("a")}
    assert Secret("a") != "a"
    assert Secret("\ud800") == Secret("\ud800")


@pytest.mark.parametrize(
    "shown", [repr, str, "{}".format, lambda secret: f"{secret!s:>20}", lambda s: repr([s, {s: s}])]
)
def test_a_secret_never_prints(shown: Any) -> None:
    """Secrets never in logs, URLs, reprs or error messages."""
    value = hashlib.sha256(b"x").hexdigest()
    assert value not in shown(Secret(value))
    with pytest.raises(TypeError):
        json.dumps(Secret(value))
