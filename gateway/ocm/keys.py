"""Keys of HTTP Message Signatures and access tokens: our private ones, and the public ones in a JWK Set (RFC 7517).

The algorithm always comes from the key, never from a message (draft-07, Keys and Algorithms). `none` and MACs are not
in the table, so they cannot be used.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    SECP384R1,
    EllipticCurve,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
    EllipticCurvePublicNumbers,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from http_message_signatures import algorithms
from http_message_signatures.algorithms import HTTPSignatureAlgorithm

from gateway.ocm.errors import Malformed
from gateway.ocm.fields import IDENTIFIER_MAX, decode_object
from gateway.ocm.text import is_identifier

PrivateKey: TypeAlias = Ed25519PrivateKey | EllipticCurvePrivateKey
AnyPublicKey: TypeAlias = Ed25519PublicKey | EllipticCurvePublicKey | RSAPublicKey

RSA_BITS = range(2048, 8193)  # less is broken (NIST SP 800-131A), more only keeps a verifier busy
RSA_EXPONENT_BITS = 32  # likewise; everybody uses 65537
KEYS_MAX = 64  # of one JWK Set

_BASE64URL = re.compile(r"[A-Za-z0-9_-]+")
_CURVES: Mapping[str, type[EllipticCurve]] = {"P-256": SECP256R1, "P-384": SECP384R1}


class RSA_V1_5_SHA512(algorithms.RSA_V1_5_SHA256):  # noqa: N801 - named as its siblings in the library
    """RS512, which JOSE has registered and RFC 9421 has not."""

    algorithm_id = ""

    def verify(self, signature: bytes, message: bytes) -> None:
        self.public_key.verify(signature, message, PKCS1v15(), SHA512())


@dataclass(frozen=True, slots=True)
class Algorithm:
    """What a JWK algorithm needs as its key, and what it is called in the registry of RFC 9421, if it is there."""

    key_type: Literal["OKP", "EC", "RSA"]
    curve: str | None
    http_name: str | None
    scheme: type[HTTPSignatureAlgorithm]


# RFC 7518 section 3.1, RFC 9864 section 2, RFC 9421 section 6.2.2.
ALGORITHMS: Mapping[str, Algorithm] = {
    "Ed25519": Algorithm("OKP", "Ed25519", "ed25519", algorithms.ED25519),
    "EdDSA": Algorithm("OKP", "Ed25519", "ed25519", algorithms.ED25519),
    "ES256": Algorithm("EC", "P-256", "ecdsa-p256-sha256", algorithms.ECDSA_P256_SHA256),
    "ES384": Algorithm("EC", "P-384", "ecdsa-p384-sha384", algorithms.ECDSA_P384_SHA384),
    "RS256": Algorithm("RSA", None, "rsa-v1_5-sha256", algorithms.RSA_V1_5_SHA256),
    "RS512": Algorithm("RSA", None, None, RSA_V1_5_SHA512),
    "PS512": Algorithm("RSA", None, "rsa-pss-sha512", algorithms.RSA_PSS_SHA512),
}


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key that signatures are verified with; `key` fits `alg`."""

    kid: str
    alg: str
    key: AnyPublicKey

    @property
    def algorithm(self) -> Algorithm:
        return ALGORITHMS[self.alg]


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key of ours: Ed25519 or ES256, as its kind says."""

    kid: str
    alg: Literal["Ed25519", "ES256"]
    private_key: PrivateKey = field(repr=False)

    @classmethod
    def from_private(cls, private_key: object, kid: str) -> SigningKey:
        """Name a private key; raises ValueError if it is neither Ed25519 nor P-256, or the name cannot be sent."""
        if not (kid.isascii() and is_identifier(kid, IDENTIFIER_MAX)):
            raise ValueError(f"a kid has to be visible ASCII, and {kid!r} is not")
        if isinstance(private_key, Ed25519PrivateKey):
            return cls(kid, "Ed25519", private_key)
        if isinstance(private_key, EllipticCurvePrivateKey) and isinstance(private_key.curve, SECP256R1):
            return cls(kid, "ES256", private_key)
        raise ValueError(f"the key {kid} is neither Ed25519 nor P-256")

    @classmethod
    def from_pem(cls, pem: bytes, kid: str) -> SigningKey:
        """Read an unencrypted PEM file; raises ValueError."""
        try:
            private_key = load_pem_private_key(pem, None)
        except TypeError as error:
            raise ValueError(f"the key {kid} is encrypted") from error
        return cls.from_private(private_key, kid)

    def to_pem(self) -> bytes:
        """Return the private key as unencrypted PKCS #8 PEM."""
        return self.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    @property
    def algorithm(self) -> Algorithm:
        return ALGORITHMS[self.alg]

    def public(self) -> PublicKey:
        return PublicKey(self.kid, self.alg, self.private_key.public_key())

    def public_jwk(self) -> dict[str, str]:
        """Return the public half as a JWK with `kid`, `alg` and `use` (RFC 8037 section 2, RFC 7518 section 6.2)."""
        algorithm = self.algorithm
        assert algorithm.curve is not None
        jwk = {"kty": algorithm.key_type, "crv": algorithm.curve, "kid": self.kid, "alg": self.alg, "use": "sig"}
        public = self.private_key.public_key()
        if isinstance(public, Ed25519PublicKey):
            return jwk | {"x": _encode(public.public_bytes(Encoding.Raw, PublicFormat.Raw))}
        numbers = public.public_numbers()
        return jwk | {"x": _encode(numbers.x.to_bytes(32, "big")), "y": _encode(numbers.y.to_bytes(32, "big"))}


@dataclass(frozen=True, slots=True)
class JWKSet:
    """The usable keys of a JWK Set, and why the others are not, by their `kid`."""

    keys: tuple[PublicKey, ...]
    unusable: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, document: bytes | Mapping[str, Any]) -> JWKSet:
        """Read a JWK Set; keys that cannot be used here are passed over, and the first of two with one name counts.

        Raises Malformed: what decode_object raises, and INVALID_JWKS when there is no list of keys.
        """
        body = document if isinstance(document, Mapping) else decode_object(document)
        entries = body.get("keys")
        if not isinstance(entries, list):
            raise Malformed("INVALID_JWKS", "a JWK Set without a list of keys")
        keys: dict[str, PublicKey] = {}
        unusable: dict[str, str] = {}
        for entry in entries[:KEYS_MAX]:
            kid = entry.get("kid") if isinstance(entry, Mapping) else None
            if not isinstance(kid, str) or not is_identifier(kid, IDENTIFIER_MAX) or kid in keys or kid in unusable:
                continue
            try:
                keys[kid] = _public_key(kid, entry)
            except (ValueError, TypeError) as error:
                unusable[kid] = str(error)
        return cls(tuple(keys.values()), unusable)

    def get(self, kid: str) -> PublicKey | None:
        """Return the key whose `kid` is equal to `kid`, byte for byte."""
        return next((key for key in self.keys if key.kid == kid), None)

    def __iter__(self) -> Iterator[PublicKey]:
        return iter(self.keys)

    def __len__(self) -> int:
        return len(self.keys)


def jwks_document(keys: Iterable[SigningKey]) -> dict[str, Any]:
    """Return the JWK Set to publish."""
    return {"keys": [key.public_jwk() for key in keys]}


def _public_key(kid: str, jwk: Mapping[str, Any]) -> PublicKey:
    """Return the key that `jwk` describes; raises ValueError or TypeError saying why it cannot be used."""
    alg = str(jwk.get("alg"))
    algorithm = ALGORITHMS.get(alg)
    if algorithm is None:
        raise ValueError("alg is missing, or no asymmetric signature algorithm that is known here")
    if jwk.get("kty") != algorithm.key_type or (algorithm.curve and jwk.get("crv") != algorithm.curve):
        raise ValueError("alg does not fit kty and crv")
    if jwk.get("use", "sig") != "sig" or "verify" not in jwk.get("key_ops", ["verify"]):
        raise ValueError("the key is not for verifying signatures")
    if "d" in jwk:
        raise ValueError("the private key is published with it, so it proves nothing")
    return PublicKey(kid, alg, _LOADERS[algorithm.key_type](jwk))


def _load_okp(jwk: Mapping[str, Any]) -> AnyPublicKey:
    return Ed25519PublicKey.from_public_bytes(_decode(jwk.get("x"), 32))


def _load_ec(jwk: Mapping[str, Any]) -> AnyPublicKey:
    curve = _CURVES[jwk["crv"]]()
    size = curve.key_size // 8  # RFC 7518 section 6.2.1.2: the full size, zeros in front included
    x, y = (int.from_bytes(_decode(jwk.get(name), size), "big") for name in ("x", "y"))
    return EllipticCurvePublicNumbers(x, y, curve).public_key()


def _load_rsa(jwk: Mapping[str, Any]) -> AnyPublicKey:
    modulus, exponent = (int.from_bytes(_decode(jwk.get(name)), "big") for name in ("n", "e"))
    if modulus.bit_length() not in RSA_BITS or exponent.bit_length() > RSA_EXPONENT_BITS:
        raise ValueError(f"an RSA key of {modulus.bit_length()} bits")
    return RSAPublicNumbers(exponent, modulus).public_key()


_LOADERS: Mapping[str, Callable[[Mapping[str, Any]], AnyPublicKey]] = {
    "OKP": _load_okp,
    "EC": _load_ec,
    "RSA": _load_rsa,
}


def _decode(value: object, size: int | None = None) -> bytes:
    if not isinstance(value, str) or not _BASE64URL.fullmatch(value.rstrip("=")):
        raise ValueError("a number of the key is missing or not base64url")
    unpadded = value.rstrip("=")
    decoded = base64.urlsafe_b64decode(unpadded + "=" * (-len(unpadded) % 4))
    if size is not None and len(decoded) != size:
        raise ValueError(f"a number of the key has {len(decoded)} bytes instead of {size}")
    return decoded


def _encode(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()
