"""Digest Fields, RFC 9530: the digest that goes with a body, and the check of one that came.

`parse_digest` and HASHLIB_NAMES serve a caller that hashes while it streams; both functions below know whole bodies.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping

import http_sf

from gateway.ocm.errors import Malformed

# RFC 9530 section 5: the algorithms that withstand an attacker. The others there only find accidents.
HASHLIB_NAMES: Mapping[str, str] = {"sha-256": "sha256", "sha-512": "sha512"}


def content_digest(body: bytes, algorithm: str = "sha-256") -> str:
    """Return the value of a Content-Digest header for `body`; raises KeyError for an algorithm not in HASHLIB_NAMES."""
    digest: str = http_sf.ser({algorithm: hashlib.new(HASHLIB_NAMES[algorithm], body).digest()})
    return digest


def parse_digest(header: str) -> dict[str, bytes]:
    """Return algorithm -> digest from a Content-Digest or Repr-Digest header, several field lines joined by ", ".

    Members that are no byte sequences are left out unless their algorithm is in HASHLIB_NAMES. Raises
    Malformed("MALFORMED_DIGEST"), also for an algorithm that is given twice.
    """
    digests: dict[str, bytes] = {}
    for algorithm, member in _members(header).items():
        value = member[0] if isinstance(member, tuple) else member
        if isinstance(value, bytes):
            digests[algorithm] = value
        elif algorithm in HASHLIB_NAMES:
            raise Malformed("MALFORMED_DIGEST", f"the {algorithm} digest is no byte sequence")
    return digests


def verify_content_digest(header: str, body: bytes) -> None:
    """Return if at least one secure digest in `header` is known, and every known one is that of `body`.

    Raises Malformed: MALFORMED_DIGEST, NO_SECURE_DIGEST, DIGEST_MISMATCH (draft-07, Verification Requirements).
    """
    known = {name: digest for name, digest in parse_digest(header).items() if name in HASHLIB_NAMES}
    if not known:
        raise Malformed("NO_SECURE_DIGEST", f"no digest by one of {', '.join(HASHLIB_NAMES)}")
    for algorithm, digest in known.items():
        if not hmac.compare_digest(digest, hashlib.new(HASHLIB_NAMES[algorithm], body).digest()):
            raise Malformed("DIGEST_MISMATCH", f"the {algorithm} digest is not that of the body")


def _members(header: str) -> Mapping[str, object]:
    def refuse(algorithm: str, context: str) -> None:
        if context == "dictionary":
            raise ValueError(f"{algorithm} is given twice")

    try:
        members = http_sf.parse(header.encode("ascii"), tltype="dictionary", on_duplicate_key=refuse)
    except (ValueError, OverflowError) as error:
        raise Malformed("MALFORMED_DIGEST", "a digest header that is no dictionary of RFC 9651") from error
    assert isinstance(members, dict)
    return members
