"""The keys by which clients of the SSH door know it again: made once, private, shown with what DNS may say of them.

They stay for ever: a client that meets another key under this name takes it for an attack.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
)

from gateway.ocm.errors import Malformed
from gateway.ocm.ssh_keys import PublicKey, parse_public_key
from gateway.store.sealing import key_file

RSA_BITS = 3072  # as strong as the others (NIST SP 800-57 part 1, table 2)

AnyKey = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

# By file, in the order in which clients should prefer them.
FILES: Mapping[str, Callable[[], AnyKey]] = {
    "ssh_host_ed25519": ed25519.Ed25519PrivateKey.generate,
    "ssh_host_ecdsa": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ssh_host_rsa": lambda: rsa.generate_private_key(65537, RSA_BITS),
}

# RFC 4255 section 3.1.1, RFC 6594 section 3.2, RFC 7479 section 2; the digest is SHA-256 (RFC 6594 section 3.2).
SSHFP_ALGORITHMS: Mapping[str, int] = {"ssh-rsa": 1, "ecdsa-sha2-nistp256": 3, "ssh-ed25519": 4}
SSHFP_SHA256 = 2


@dataclass(frozen=True, slots=True)
class HostKeyRecord:
    """One key as `keys list` shows it; `sshfp` is a line for a zone of DNS."""

    name: str
    key: PublicKey
    created: int
    sshfp: str


class HostKeys:
    """The key files in one directory; what it gives never changes."""

    def __init__(self, directory: Path) -> None:
        """Make what is missing, which takes up to a second; raises OSError, also for a file that holds no such key."""
        self._paths = {name: directory / name for name in FILES}
        self._private = {name: key_file(path, partial(_new, FILES[name])) for name, path in self._paths.items()}
        self._public = {name: _public(self._paths[name], content) for name, content in self._private.items()}

    def private(self) -> tuple[bytes, ...]:
        """Return the private keys in OpenSSH's form, without pass phrase."""
        return tuple(self._private.values())

    def public(self) -> tuple[PublicKey, ...]:
        return tuple(self._public.values())

    def records(self, host: str) -> tuple[HostKeyRecord, ...]:
        """Return what there is to say of each key, for clients that reach the door by the name `host`."""
        return tuple(
            HostKeyRecord(name, key, int(self._paths[name].stat().st_mtime), _sshfp(host, key))
            for name, key in self._public.items()
        )


def _new(make: Callable[[], AnyKey]) -> bytes:
    return make().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())


def _public(path: Path, content: bytes) -> PublicKey:
    try:
        public = load_ssh_private_key(content, None).public_key()
        return parse_public_key(public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode())
    except (ValueError, TypeError, Malformed) as error:  # TypeError: it has a pass phrase
        raise OSError(f"{path} holds no private key in the form of OpenSSH without pass phrase") from error


def _sshfp(host: str, key: PublicKey) -> str:
    return f"{host} IN SSHFP {SSHFP_ALGORITHMS[key.algorithm]} {SSHFP_SHA256} {sha256(key.blob).hexdigest()}"
