"""Which host keys a server may have: a known_hosts file as sshd(8) describes it.

paramiko's reader knows one key of a kind for each host, no patterns and no revoked keys, so this is our own.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from backends.errors import Unavailable

_REVOKED = "@revoked"
# Algorithms that sign with a kind of key (RFC 8332 section 3): SHA-1 is not among them.
_ALGORITHMS = {"ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256")}


@dataclass(frozen=True, slots=True)
class HostKeys:
    """The keys of one host: `kinds` as in the file, in its order; `keys` and `revoked` as bytes of the wire."""

    kinds: tuple[str, ...]
    keys: frozenset[bytes]
    revoked: frozenset[bytes]

    @property
    def algorithms(self) -> list[str]:
        """The signature algorithms to ask for, so that the server shows a key that can be compared."""
        return [name for kind in self.kinds for name in _ALGORITHMS.get(kind, (kind,))]


def name_of(host: str, port: int) -> str:
    """Return the name by which the file knows a server: its port is left out where that is 22."""
    return host if port == 22 else f"[{host}]:{port}"


def fingerprint(key: bytes) -> str:
    """Return what ssh-keygen -l shows of a key."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key).digest()).decode().rstrip("=")


def host_keys(file: Path, host: str, port: int) -> HostKeys:
    """Return the keys that `file` has for a server; raises Unavailable where it cannot be read."""
    try:
        lines = file.read_text("utf-8", "surrogateescape").splitlines()
    except OSError as error:
        raise Unavailable(f"known_hosts_file {file}: {error.strerror}") from error
    kinds: dict[str, None] = {}
    keys, revoked = set(), set()
    for line in lines:
        marker, names, kind, key = _fields(line)
        if key is None or marker not in ("", _REVOKED) or not _names(names, name_of(host, port).lower()):
            continue
        if marker:
            revoked.add(key)
        else:
            keys.add(key)
            kinds[kind] = None
    return HostKeys(tuple(kinds), frozenset(keys), frozenset(revoked))


def _fields(line: str) -> tuple[str, str, str, bytes | None]:
    """Return marker, names, kind and key of a line; without a key it says nothing."""
    marker, words = "", line.split()
    if words and words[0].startswith("@"):
        marker, *words = words
    if len(words) < 3 or words[0].startswith("#"):
        return "", "", "", None
    try:
        return marker, words[0], words[1], base64.b64decode(words[2], validate=True)
    except (binascii.Error, ValueError):
        return "", "", "", None


def _names(patterns: str, name: str) -> bool:
    """Tell whether a list of patterns names the host; one that is negated outweighs the others."""
    found = False
    for pattern in patterns.split(","):
        if pattern.startswith("|1|"):
            found = found or _is_hash_of(pattern, name)
        elif _matches(pattern.removeprefix("!").lower(), name):
            if pattern.startswith("!"):
                return False
            found = True
    return found


def _matches(pattern: str, name: str) -> bool:
    """Compare with `*` and `?`, the only signs of patterns; brackets stand for themselves."""
    return fnmatchcase(name, pattern.replace("[", "[[]"))


def _is_hash_of(pattern: str, name: str) -> bool:
    """Compare with `|1|SALT|HMAC-SHA1`, as ssh-keygen -H writes it."""
    try:
        _, _, salt, digest = pattern.split("|")
        expected = base64.b64decode(digest, validate=True)
        made = hmac.digest(base64.b64decode(salt, validate=True), name.encode(), "sha1")
    except ValueError:
        return False
    return hmac.compare_digest(made, expected)
