"""Keys and JWK Sets (draft-07, Keys and Algorithms; wire.md, Keys)."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from gateway.ocm.errors import Malformed
from gateway.ocm.keys import ALGORITHMS, KEYS_MAX, JWKSet, SigningKey, jwks_document

KID = "https://sender.example/ocm#ed25519-1"


def b64(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def number(value: int) -> str:
    return b64(value.to_bytes((value.bit_length() + 7) // 8, "big"))


@pytest.fixture(scope="module")
def rsa_jwk() -> dict[str, str]:
    numbers = rsa.generate_private_key(65537, 2048).public_key().public_numbers()
    return {"kty": "RSA", "kid": "r", "n": number(numbers.n), "e": number(numbers.e)}


@pytest.fixture(scope="module")
def p384_jwk() -> dict[str, str]:
    numbers = ec.generate_private_key(ec.SECP384R1()).public_key().public_numbers()
    x, y = (b64(value.to_bytes(48, "big")) for value in (numbers.x, numbers.y))
    return {"kty": "EC", "crv": "P-384", "kid": "p", "x": x, "y": y}


def why_not(jwk: dict[str, Any]) -> str:
    """Return why this one key cannot be used."""
    keys = JWKSet.parse({"keys": [jwk]})
    assert len(keys) == 0
    assert keys.get(jwk["kid"]) is None
    return keys.unusable[jwk["kid"]]


def test_the_draft_s_jwk_set_is_read(vectors: dict[str, Any]) -> None:
    """draft-07, Appendix B."""
    keys = JWKSet.parse(json.dumps(vectors["jwks"]).encode())
    key = keys.get("sender.example.org#key1")
    assert key is not None
    assert (key.alg, key.algorithm.http_name) == ("Ed25519", "ed25519")


def test_what_we_publish_has_kid_and_alg_and_no_private_part(ed25519: SigningKey, es256: SigningKey) -> None:
    """MUST (draft-07, Keys and Algorithms): each key has kid and alg; Ed25519 is RECOMMENDED, and ES256 beside it."""
    document = jwks_document([ed25519, es256])
    assert [set(jwk) for jwk in document["keys"]] == [
        {"kty", "crv", "kid", "alg", "use", "x"},
        {"kty", "crv", "kid", "alg", "use", "x", "y"},
    ]
    keys = JWKSet.parse(document)
    assert [key.alg for key in keys] == ["Ed25519", "ES256"]
    assert keys.get(es256.kid) == es256.public()
    assert "BEGIN" not in json.dumps(document)


def test_the_kid_is_compared_byte_for_byte(ed25519: SigningKey) -> None:
    """MUST (draft-07, Signing Requirements): keyid equals the kid."""
    keys = JWKSet.parse(jwks_document([ed25519]))
    assert keys.get(KID) is not None
    assert keys.get(KID.upper()) is None
    assert keys.get(KID + " ") is None
    assert keys.get("#ed25519-1") is None


def test_eddsa_with_an_ed25519_key_is_accepted(ed25519: SigningKey) -> None:
    """SHOULD be fully specified, but `EdDSA` with an Ed25519 key is accepted (wire.md, Keys)."""
    key = JWKSet.parse({"keys": [ed25519.public_jwk() | {"alg": "EdDSA"}]}).get(KID)
    assert key is not None
    assert key.algorithm.http_name == "ed25519"


@pytest.mark.parametrize("alg", ["RS256", "RS512", "PS512"])
def test_rsa_keys_are_read(rsa_jwk: dict[str, str], alg: str) -> None:
    assert len(JWKSet.parse({"keys": [rsa_jwk | {"alg": alg}]})) == 1


def test_p_384_keys_are_read(p384_jwk: dict[str, str]) -> None:
    assert len(JWKSet.parse({"keys": [p384_jwk | {"alg": "ES384"}]})) == 1


@pytest.mark.parametrize("alg", [None, "none", "HS256", "HS512", "RSA-OAEP", "ES512", "ed25519", 5, ["Ed25519"]])
def test_a_key_without_an_asymmetric_signature_algorithm_is_not_used(ed25519: SigningKey, alg: object) -> None:
    """MUST NOT (draft-07, Keys and Algorithms): none and MACs; MUST: alg is there."""
    assert "alg" in why_not(ed25519.public_jwk() | {"alg": alg})


def test_a_symmetric_key_is_not_used() -> None:
    assert "alg" in why_not({"kty": "oct", "kid": "k", "alg": "HS256", "k": b64(b"x" * 32)})


@pytest.mark.parametrize("changes", [{"alg": "ES256"}, {"kty": "EC"}, {"crv": "Ed448"}, {"crv": None}, {"kty": None}])
def test_the_algorithm_fits_kty_and_crv(ed25519: SigningKey, changes: dict[str, Any]) -> None:
    """The algorithm must fit `kty` and `crv` (wire.md, Keys)."""
    assert "does not fit" in why_not(ed25519.public_jwk() | changes)


def test_a_p_256_key_is_no_es384_key(es256: SigningKey) -> None:
    assert "does not fit" in why_not(es256.public_jwk() | {"alg": "ES384"})


@pytest.mark.parametrize(
    "changes",
    [{"use": "enc"}, {"key_ops": ["sign"]}, {"key_ops": 5}, {"x": None}, {"x": "!"}, {"x": "AAAA"}, {"d": "x"}],
)
def test_a_key_that_is_for_something_else_or_incomplete_is_not_used(
    ed25519: SigningKey, changes: dict[str, Any]
) -> None:
    assert why_not(ed25519.public_jwk() | changes)


def test_a_point_that_is_not_on_the_curve_is_not_used(es256: SigningKey) -> None:
    assert why_not(es256.public_jwk() | {"y": b64(b"\x01" * 32)})


@pytest.mark.parametrize("bits", [1024, 2047, 8193])
def test_rsa_keys_outside_2048_to_8192_bits_are_not_used(bits: int) -> None:
    """RSA < 2048 is refused; more only keeps a verifier busy."""
    modulus = (1 << (bits - 1)) | 1
    assert f"{bits} bits" in why_not({"kty": "RSA", "kid": "r", "alg": "RS256", "n": number(modulus), "e": "AQAB"})


def test_an_rsa_exponent_that_keeps_a_verifier_busy_is_not_used(rsa_jwk: dict[str, str]) -> None:
    assert why_not(rsa_jwk | {"alg": "RS256", "e": rsa_jwk["n"]})


def test_foreign_keys_are_passed_over(ed25519: SigningKey) -> None:
    """A JWK Set may hold keys that are of no use here (RFC 7517 section 5)."""
    entries = [None, 7, {}, {"kid": 5}, {"kid": ""}, {"kty": "XYZ", "kid": "x"}, ed25519.public_jwk()]
    keys = JWKSet.parse({"keys": entries})
    assert [key.kid for key in keys] == [KID]


def test_the_first_of_two_keys_with_one_name_counts(ed25519: SigningKey, es256: SigningKey) -> None:
    keys = JWKSet.parse({"keys": [ed25519.public_jwk(), es256.public_jwk() | {"kid": KID}]})
    assert [key.alg for key in keys] == ["Ed25519"]


def test_a_set_of_very_many_keys_is_read_in_part(ed25519: SigningKey) -> None:
    entries = [ed25519.public_jwk() | {"kid": f"k{index}"} for index in range(KEYS_MAX + 10)]
    assert len(JWKSet.parse({"keys": entries})) == KEYS_MAX


@pytest.mark.parametrize(
    ("document", "code"), [(b"{}", "INVALID_JWKS"), (b'{"keys":{}}', "INVALID_JWKS"), (b"x", "INVALID_JSON")]
)
def test_what_is_no_jwk_set_is_refused(document: bytes, code: str) -> None:
    with pytest.raises(Malformed) as caught:
        JWKSet.parse(document)
    assert caught.value.code == code


@pytest.mark.parametrize("name", ["ed25519", "es256"])
def test_a_signing_key_survives_its_pem(name: str, request: pytest.FixtureRequest) -> None:
    key = request.getfixturevalue(name)
    again = SigningKey.from_pem(key.to_pem(), key.kid)
    assert again.public_jwk() == key.public_jwk()
    assert again.alg == key.alg


def test_a_signing_key_does_not_print_its_private_part(ed25519: SigningKey) -> None:
    assert repr(ed25519) == f"SigningKey(kid='{KID}', alg='Ed25519')"


def test_a_key_of_another_kind_does_not_sign() -> None:
    for key in (rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP384R1()), object()):
        with pytest.raises(ValueError, match="neither Ed25519 nor P-256"):
            SigningKey.from_private(key, KID)


def test_a_pem_that_cannot_be_read_is_a_value_error() -> None:
    encrypted = Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"password")
    )
    for pem in (b"", b"garbage", encrypted):
        with pytest.raises(ValueError, match=r".+"):
            SigningKey.from_pem(pem, KID)


@pytest.mark.parametrize("kid", ["", "käse", "a\nb"])
def test_a_kid_can_be_sent_in_a_header(kid: str) -> None:
    with pytest.raises(ValueError, match="kid"):
        SigningKey.from_private(Ed25519PrivateKey.generate(), kid)


def test_the_table_of_algorithms_has_no_mac_and_no_none() -> None:
    """MUST NOT (draft-07, Keys and Algorithms)."""
    assert set(ALGORITHMS) == {"Ed25519", "EdDSA", "ES256", "ES384", "RS256", "RS512", "PS512"}
