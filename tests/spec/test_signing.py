"""Signing requests (draft-07, Signing Requirements; wire.md, Signing)."""

from __future__ import annotations

import http_sf
import pytest

from gateway.ocm.keys import ALGORITHMS, JWKSet, SigningKey
from gateway.ocm.signatures import Message, find_signature, sign, verify

CREATED = 1_785_060_500
MESSAGE = Message("POST", "https://receiver.example:8443/site/ocm/shares?a=b", (), b'{"a":1}')


@pytest.fixture(params=["ed25519", "es256"])
def key(request: pytest.FixtureRequest) -> SigningKey:
    return request.getfixturevalue(request.param)


def test_a_signed_request_carries_the_four_headers_and_verifies(key: SigningKey, published: JWKSet) -> None:
    headers = sign(MESSAGE, key, created=CREATED)
    assert list(headers) == ["Content-Digest", "Content-Length", "Signature-Input", "Signature"]
    signed = Message(MESSAGE.method, MESSAGE.target_uri, tuple(headers.items()), MESSAGE.body)
    verified = verify(signed, published, now=CREATED)
    assert (verified.key_id, verified.created, verified.evidence) == (key.kid, CREATED, "rfc9421")


def test_the_signature_covers_exactly_the_four_components(key: SigningKey) -> None:
    """MUST (draft-07, Signing Requirements): @method, @target-uri, content-digest, content-length; not date."""
    found = find_signature(tuple(sign(MESSAGE, key, created=CREATED).items()))
    assert found is not None
    assert found.components == ("@method", "@target-uri", "content-digest", "content-length")


def test_the_parameters_are_created_keyid_and_the_tag(key: SigningKey) -> None:
    """MUST (draft-07, Signing Requirements): created, keyid equal to the kid, tag="ocm", exactly one signature."""
    headers = sign(MESSAGE, key, created=CREATED)
    parsed = http_sf.parse(headers["Signature-Input"].encode(), tltype="dictionary")
    assert isinstance(parsed, dict)
    assert list(parsed) == ["ocm"]
    _, parameters = parsed["ocm"]
    assert parameters == {"created": CREATED, "keyid": key.kid, "alg": key.algorithm.http_name, "tag": "ocm"}


def test_the_digest_is_sha_256_and_the_length_is_that_of_the_body(key: SigningKey) -> None:
    """MUST (draft-07, Signing Requirements): sha-256 is supported; we send it (wire.md, Signing)."""
    headers = sign(MESSAGE, key, created=CREATED)
    assert headers["Content-Digest"].startswith("sha-256=:")
    assert headers["Content-Length"] == "7"


def test_a_request_without_a_body_is_signed_like_any_other(key: SigningKey, published: JWKSet) -> None:
    headers = sign(Message("POST", "https://r.example/"), key, created=CREATED)
    assert headers["Content-Length"] == "0"
    assert verify(Message("POST", "https://r.example/", tuple(headers.items())), published, now=CREATED)


def test_a_key_without_a_counterpart_in_the_registry_would_be_named_by_no_alg() -> None:
    """MUST (draft-07, Keys and Algorithms): alg is omitted then; both kinds of key that sign here have one."""
    assert [name for name, algorithm in ALGORITHMS.items() if algorithm.http_name is None] == ["RS512"]


@pytest.mark.parametrize(
    "message", [Message("post", "https://r.example/"), Message("POST", "/ocm/shares"), Message("POST", "https://r.e/ä")]
)
def test_what_cannot_be_signed_is_a_mistake_of_ours(message: Message, key: SigningKey) -> None:
    with pytest.raises(ValueError, match="cannot be signed"):
        sign(message, key, created=CREATED)


def test_a_message_does_not_print_its_body(key: SigningKey) -> None:
    """The body of a token request is a secret."""
    assert "my_secret_code" not in repr(Message("POST", "https://r.example/", (), b"code=my_secret_code"))


def test_a_nonce_makes_two_equal_requests_of_one_second_differ(ed25519: SigningKey) -> None:
    """RFC 9421 section 2.3: nonce; without one, Ed25519 signs equal requests alike, and the second is a replay."""
    message = Message("POST", "https://receiver.example.org/ocm/token", (), b"grant_type=authorization_code")
    first, second = (sign(message, ed25519, 1785060500, nonce=nonce) for nonce in ("a", "b"))
    assert first["Signature"] != second["Signature"]
    assert 'nonce="a"' in first["Signature-Input"]
    signed = Message(message.method, message.target_uri, tuple(first.items()), message.body)
    assert verify(signed, JWKSet((ed25519.public(),)), now=1785060500).tagged
