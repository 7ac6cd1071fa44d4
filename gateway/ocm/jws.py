"""JSON Web Signatures (RFC 7515), read in all three serialisations and written in the compact one.

The algorithm is always that of a key that was chosen beforehand. A header that names another one does not count, so
neither do `none` and MACs (RFC 8725, section 3.1). The bytes of a signature are those that HTTP Message Signatures have
for the same algorithm (RFC 7518, section 3; RFC 9421, section 3.3), so they are made and verified by the same code.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from http_message_signatures.exceptions import HTTPMessageSignaturesException

from gateway.ocm.errors import Malformed, SignatureInvalid
from gateway.ocm.fields import decode_object
from gateway.ocm.keys import PublicKey, SigningKey

SIGNATURES_MAX = 8  # of one document

# An Ed25519 key has two names for its one algorithm: RFC 8037, section 3.1, and RFC 9864, section 2.2.
_SAME_ALGORITHM = {"EdDSA": "Ed25519"}
_BASE64URL = re.compile(r"[A-Za-z0-9_-]*")


@dataclass(frozen=True, slots=True)
class _Signed:
    """One signature: what it covers, and by which algorithm as it says itself."""

    covered: bytes
    signature: bytes
    algorithm: str


def verify_jws(body: bytes, keys: Iterable[PublicKey]) -> bytes:
    """Return the payload of a JWS that one of `keys` has signed.

    Raises Malformed("INVALID_JWS"), SignatureInvalid: ALGORITHM_REFUSED, SIGNATURE_INVALID.
    """
    payload, signatures = _read(body)
    fitting = [(key, each) for each in signatures for key in keys if _name(key.alg) == each.algorithm]
    if not fitting:
        named = ", ".join(sorted({repr(each.algorithm[:20]) for each in signatures}))
        known = ", ".join(sorted({_name(key.alg) for key in keys}))
        raise SignatureInvalid("ALGORITHM_REFUSED", f"it is signed by {named}, and the configured keys are for {known}")
    if not any(_is_signed(each, key) for key, each in fitting):
        raise SignatureInvalid("SIGNATURE_INVALID", "none of the configured keys has signed it")
    return payload


def sign_jws(payload: bytes, key: SigningKey) -> str:
    """Return the compact serialisation of `payload`, signed with `key`."""
    # Older libraries know Ed25519 by its older name alone.
    header = {"alg": "EdDSA" if key.alg == "Ed25519" else key.alg}
    covered = f"{_encode(json.dumps(header).encode())}.{_encode(payload)}"
    signature: bytes = key.algorithm.scheme(private_key=key.private_key).sign(covered.encode())
    return f"{covered}.{_encode(signature)}"


def _is_signed(signed: _Signed, key: PublicKey) -> bool:
    try:
        key.algorithm.scheme(public_key=key.key).verify(signed.signature, signed.covered)
    except (InvalidSignature, HTTPMessageSignaturesException, ValueError):
        return False
    return True


def _read(body: bytes) -> tuple[bytes, list[_Signed]]:
    """Return payload and signatures; raises Malformed."""
    text = body.decode("utf-8", "replace").strip()
    if not text.startswith("{"):
        protected, _, rest = text.partition(".")
        payload, _, signature = rest.partition(".")
        document: Mapping[str, Any] = {"payload": payload, "protected": protected, "signature": signature}
    else:
        document = decode_object(body)
    members = document.get("signatures", [document])
    if not isinstance(members, list) or not 0 < len(members) <= SIGNATURES_MAX:
        raise Malformed("INVALID_JWS", f"its signatures are no list of 1 to {SIGNATURES_MAX}")
    content = _decode(document.get("payload"), "payload")
    return content, [_signed(document["payload"], member) for member in members]


def _signed(payload: str, member: object) -> _Signed:
    """Return one signature; a header that is not protected says nothing (RFC 7515, section 10.7)."""
    if not isinstance(member, Mapping):
        raise Malformed("INVALID_JWS", "one of its signatures is not an object")
    protected = member.get("protected")
    header = decode_object(_decode(protected, "protected header"))
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or "crit" in header:
        raise Malformed("INVALID_JWS", "its header names no algorithm, or an extension that is not known here")
    signature = _decode(member.get("signature"), "signature")
    return _Signed(f"{protected}.{payload}".encode(), signature, _name(algorithm))


def _name(algorithm: str) -> str:
    return _SAME_ALGORITHM.get(algorithm, algorithm)


def _encode(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def _decode(value: object, what: str) -> bytes:
    if not isinstance(value, str) or not _BASE64URL.fullmatch(value) or len(value) % 4 == 1:
        raise Malformed("INVALID_JWS", f"its {what} is not base64url without padding; it may be cut off")
    return base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))
