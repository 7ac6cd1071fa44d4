"""Public keys as operators have them in files: PEM, a JWK, or a JWK Set; one key or several.

A key that does not name its algorithm, as in PEM, has the one that JOSE gives to its kind.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from gateway.ocm.errors import Malformed
from gateway.ocm.fields import decode_object
from gateway.ocm.keys import RSA_BITS, JWKSet, PublicKey

_PEM = re.compile(rb"-----BEGIN ([A-Z ]+)-----.*?-----END \1-----", re.DOTALL)
_OF_CURVE = {"secp256r1": "ES256", "secp384r1": "ES384"}
_OF_KIND = {("OKP", "Ed25519"): "Ed25519", ("EC", "P-256"): "ES256", ("EC", "P-384"): "ES384", ("RSA", None): "RS256"}


def public_keys(content: bytes) -> tuple[PublicKey, ...]:
    """Return the keys in a file, at least one; raises ValueError saying what is wrong with it."""
    blocks = list(_PEM.finditer(content))
    if not blocks:
        return _of_json(content)
    if any(block[1].endswith(b"PRIVATE KEY") for block in blocks):
        raise ValueError("it holds a private key; only the public half belongs here")
    return tuple(_of_pem(block[0], f"key {number}") for number, block in enumerate(blocks, 1))


def _of_pem(pem: bytes, kid: str) -> PublicKey:
    key = load_pem_public_key(pem)
    if isinstance(key, Ed25519PublicKey):
        return PublicKey(kid, "Ed25519", key)
    if isinstance(key, EllipticCurvePublicKey) and key.curve.name in _OF_CURVE:
        return PublicKey(kid, _OF_CURVE[key.curve.name], key)
    if isinstance(key, RSAPublicKey) and key.key_size in RSA_BITS:
        return PublicKey(kid, "RS256", key)
    raise ValueError("its key is none of Ed25519, P-256, P-384 and RSA from 2048 bits")


def _of_json(content: bytes) -> tuple[PublicKey, ...]:
    try:
        document = decode_object(content)
        entries = document.get("keys", [document])
        named = [_named(entry, f"key {number}") for number, entry in enumerate(entries, 1)]
        found = JWKSet.parse({"keys": named})
    except (Malformed, TypeError) as error:
        raise ValueError("it is neither PEM nor a JWK nor a JWK Set") from error
    if found.unusable:
        raise ValueError("; ".join(f"{kid}: {why}" for kid, why in found.unusable.items()))
    if not found.keys:
        raise ValueError("it holds no key")
    return found.keys


def _named(jwk: object, kid: str) -> object:
    """Give a key a `kid` and an `alg` where it has none: neither is needed in a file of one's own."""
    if not isinstance(jwk, Mapping):
        return jwk
    return {"kid": kid, "alg": _OF_KIND.get((str(jwk.get("kty")), jwk.get("crv")))} | dict(jwk)
