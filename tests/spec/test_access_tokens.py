"""Our access tokens: JWTs by RFC 9068 (wire.md, Code Flow)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from gateway.ocm.errors import Unauthorized
from gateway.ocm.keys import JWKSet, SigningKey
from gateway.ocm.secret import Secret
from gateway.ocm.tokens import AccessTokenClaims, mint_access_token, verify_access_token

ISSUER = "https://sender.example"
NOW = 1_790_000_000
CLAIMS = {
    "issuer": ISSUER,
    "subject": "alice",
    "audience": "bob@receiver.example",
    "client_id": "opaque-share-id",
    "issued_at": NOW,
    "expires_at": NOW + 300,
    "jwt_id": "j1",
}


def mint(key: SigningKey, **changes: Any) -> Secret:
    return mint_access_token(key, **CLAIMS | changes)


def refused(token: str | Secret, keys: Any, *, now: float = NOW, issuer: str = ISSUER) -> str:
    with pytest.raises(Unauthorized) as caught:
        verify_access_token(token, keys, issuer=issuer, now=now)
    text = token.reveal() if isinstance(token, Secret) else token
    assert not text or text not in str(caught.value)
    return caught.value.code


def segments(token: Secret) -> tuple[dict[str, Any], dict[str, Any]]:
    header, claims, _ = token.reveal().split(".")
    return tuple(json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))) for part in (header, claims))


def encode(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def forge(key: SigningKey, header: dict[str, Any], claims: Any) -> str:
    """Sign any header and claims with an Ed25519 key."""
    signed = f"{encode(header)}.{encode(claims)}"
    assert isinstance(key.private_key, Ed25519PrivateKey)
    return f"{signed}.{encode(key.private_key.sign(signed.encode()))}"


@pytest.mark.parametrize("name", ["ed25519", "es256"])
def test_a_token_says_what_it_was_minted_with(name: str, published: JWKSet, request: pytest.FixtureRequest) -> None:
    """wire.md, Code Flow: typ at+jwt; iss, sub, aud, client_id, iat, jti, exp; and the kid and alg of the key."""
    key = request.getfixturevalue(name)
    token = mint(key)
    header, claims = segments(token)
    assert header == {"typ": "at+jwt", "alg": key.alg, "kid": key.kid}
    assert claims == {
        "iss": ISSUER,
        "sub": "alice",
        "aud": "bob@receiver.example",
        "client_id": "opaque-share-id",
        "iat": NOW,
        "exp": NOW + 300,
        "jti": "j1",
    }
    assert verify_access_token(token, published, issuer=ISSUER, now=NOW) == AccessTokenClaims(
        "alice", "bob@receiver.example", "opaque-share-id", NOW, NOW + 300, "j1"
    )


def test_a_token_lives_until_its_expiry_and_not_longer(ed25519: SigningKey, published: JWKSet) -> None:
    """RFC 9068 section 4: the current time is before exp."""
    token = mint(ed25519)
    assert verify_access_token(token.reveal(), published, issuer=ISSUER, now=NOW + 299.9).jwt_id == "j1"
    assert refused(token, published, now=NOW + 300) == "TOKEN_EXPIRED"


def test_only_our_issuer_counts(ed25519: SigningKey, published: JWKSet) -> None:
    """A door accepts only our `iss` (wire.md, Code Flow)."""
    assert refused(mint(ed25519, issuer="https://other.example"), published) == "TOKEN_INVALID"
    assert refused(mint(ed25519), published, issuer="https://other.example") == "TOKEN_INVALID"


def test_only_our_own_keys_count(ed25519: SigningKey, published: JWKSet) -> None:
    """A door accepts only our own key: another one under its name is none."""
    stranger = SigningKey.from_private(Ed25519PrivateKey.generate(), ed25519.kid)
    assert refused(mint(stranger), published) == "TOKEN_INVALID"
    assert refused(mint(ed25519), ()) == "TOKEN_INVALID"


@pytest.mark.parametrize("typ", ["JWT", "jwt", "AT+JWT", "application/at+jwt", "", None])
def test_only_the_type_of_access_tokens_counts(ed25519: SigningKey, published: JWKSet, typ: str | None) -> None:
    """A door accepts only `at+jwt` (wire.md, Code Flow)."""
    header = {"typ": typ, "alg": "Ed25519", "kid": ed25519.kid}
    _, claims = segments(mint(ed25519))
    assert refused(forge(ed25519, header, claims), published) == "TOKEN_INVALID"
    assert refused(forge(ed25519, {"alg": "Ed25519", "kid": ed25519.kid}, claims), published) == "TOKEN_INVALID"


@pytest.mark.parametrize("alg", ["none", "None", "HS256", "EdDSA", "ES256", "Ed448", "", 5])
def test_only_the_key_s_own_algorithm_counts(ed25519: SigningKey, published: JWKSet, alg: object) -> None:
    """A door accepts only our own key with its alg; `none` and MACs are refused (wire.md, Keys)."""
    header = {"typ": "at+jwt", "alg": alg, "kid": ed25519.kid}
    _, claims = segments(mint(ed25519))
    assert refused(forge(ed25519, header, claims), published) == "TOKEN_INVALID"
    unsigned = f"{encode(header)}.{encode(claims)}."
    assert refused(unsigned, published) == "TOKEN_INVALID"


def test_a_public_key_is_no_mac_key(ed25519: SigningKey, published: JWKSet) -> None:
    """The classic confusion: an HMAC made with the public key that everybody has."""
    header = {"typ": "at+jwt", "alg": "HS256", "kid": ed25519.kid}
    signed = f"{encode(header)}.{encode(segments(mint(ed25519))[1])}"
    mac = hmac.digest(base64.urlsafe_b64decode(ed25519.public_jwk()["x"] + "="), signed.encode(), hashlib.sha256)
    assert refused(f"{signed}.{encode(mac)}", published) == "TOKEN_INVALID"


@pytest.mark.parametrize(
    "more", [{"crit": ["b64"], "b64": False}, {"jwk": {}}, {"jku": "https://evil.example"}, {"x5c": []}, {"cty": "JWT"}]
)
def test_a_header_with_more_in_it_is_refused(ed25519: SigningKey, published: JWKSet, more: dict[str, Any]) -> None:
    header = {"typ": "at+jwt", "alg": "Ed25519", "kid": ed25519.kid} | more
    assert refused(forge(ed25519, header, segments(mint(ed25519))[1]), published) == "TOKEN_INVALID"


@pytest.mark.parametrize("name", ["iss", "sub", "aud", "client_id", "iat", "exp", "jti"])
@pytest.mark.parametrize("value", [None, 7.5, True, ["x"], {}])
def test_every_claim_is_there_and_of_its_type(ed25519: SigningKey, published: JWKSet, name: str, value: object) -> None:
    """REQUIRED (RFC 9068 section 2.2): iss, exp, aud, sub, client_id, iat, jti."""
    header, claims = segments(mint(ed25519))
    assert refused(forge(ed25519, header, claims | {name: value}), published) == "TOKEN_INVALID"
    del claims[name]
    assert refused(forge(ed25519, header, claims), published) == "TOKEN_INVALID"


@pytest.mark.parametrize("claims", [[], "x", 5, None, b"not json", b"[" * 50_000])
def test_claims_that_are_no_object_are_refused(ed25519: SigningKey, published: JWKSet, claims: Any) -> None:
    header = {"typ": "at+jwt", "alg": "Ed25519", "kid": ed25519.kid}
    assert refused(forge(ed25519, header, claims), published) == "TOKEN_INVALID"


def test_a_kid_of_another_key_type_is_refused(ed25519: SigningKey) -> None:
    """The key decides: an ES256 key under the name of an Ed25519 one verifies no Ed25519 token."""
    other = SigningKey.from_private(ec.generate_private_key(ec.SECP256R1()), ed25519.kid)
    assert refused(mint(ed25519), [other.public()]) == "TOKEN_INVALID"


@given(st.text(max_size=80) | st.text("ey.JhbGciOi_-=", max_size=80))
def test_any_text_is_a_token_or_refused(text: str) -> None:
    with pytest.raises(Unauthorized):
        verify_access_token(text, (), issuer=ISSUER, now=NOW)


@given(st.data())
def test_a_token_with_any_character_changed_is_refused(ed25519: SigningKey, published: JWKSet, data: Any) -> None:
    token = mint(ed25519).reveal()
    at = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.sampled_from("ABab01-_.").filter(lambda char: char != token[at]))
    refused(token[:at] + other + token[at + 1 :], published)
