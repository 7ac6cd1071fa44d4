"""The digest of a file that a server sends along with it.

Three header fields are met: Repr-Digest (RFC 9530 section 3), Digest (RFC 3230, which grid storage speaks), and
OC-Checksum (ownCloud and Nextcloud). All are of the whole file, also in the answer to a Range.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping

# The strongest first. What hashlib does not compute, as adler32, finds fewer accidents than the length and the ETag.
_ALGORITHMS: Mapping[str, tuple[str, ...]] = {
    "sha512": ("sha-512", "sha512"),
    "sha256": ("sha-256", "sha256"),
    "sha1": ("sha", "sha-1", "sha1"),
    "md5": ("md5",),
}
_HEX = re.compile(r"[0-9A-Fa-f]*")


def digest_of(headers: Mapping[str, str]) -> dict[str, bytes]:
    """Return the strongest digest in `headers` by its name in hashlib, or nothing.

    What cannot be understood is as good as not sent: it says nothing of the content.
    """
    if headers.get("Content-Encoding", "identity").lower() != "identity":
        return {}  # which these digests would be of, and not of what is read
    sent: dict[str, bytes] = {}
    for field, members in _FIELDS.items():
        for algorithm, value in members(headers.get(field, "")):
            sent.setdefault(algorithm.lower(), value)
    for name, spellings in _ALGORITHMS.items():
        for spelling in spellings:
            if len(sent.get(spelling, b"")) == hashlib.new(name, usedforsecurity=False).digest_size:
                return {name: sent[spelling]}
    return {}


def _structured(text: str) -> Iterator[tuple[str, bytes]]:
    """Yield the members of a dictionary of byte sequences (RFC 9651); those that are something else are left out."""
    for member in text.split(","):
        algorithm, _, value = member.strip().partition("=")
        value = value.partition(";")[0].strip()
        if len(value) > 2 and value[0] == value[-1] == ":":
            yield algorithm, _base64(value[1:-1])


def _instance(text: str) -> Iterator[tuple[str, bytes]]:
    for member in text.split(","):
        algorithm, _, value = member.strip().partition("=")
        yield algorithm, _base64(value.strip())


def _owncloud(text: str) -> Iterator[tuple[str, bytes]]:
    for member in text.split():
        algorithm, _, value = member.partition(":")
        if _HEX.fullmatch(value) and len(value) % 2 == 0:
            yield algorithm, bytes.fromhex(value)


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""


_FIELDS: Mapping[str, Callable[[str], Iterator[tuple[str, bytes]]]] = {
    "Repr-Digest": _structured,
    "Digest": _instance,
    "OC-Checksum": _owncloud,
}
