"""Encryption of secrets at rest: the database alone, in a backup or a stolen disk, opens nothing."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.durable import sync_directory

_NONCE = 12  # bytes; NIST SP 800-38D §8.2


class Sealer:
    """AES-256-GCM under one key file; each value is bound to what it belongs to."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def __repr__(self) -> str:
        return "Sealer(***)"

    def seal(self, secret: str, context: str) -> bytes:
        """Encrypt `secret` so that it opens only with the same `context`, such as a Share's id."""
        nonce = os.urandom(_NONCE)
        return nonce + self._cipher.encrypt(nonce, secret.encode(), context.encode())

    def open(self, sealed: bytes, context: str) -> str:
        """Decrypt; raises ValueError when the value, its context or the key is not the one of `seal`."""
        try:
            return self._cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], context.encode()).decode()
        except InvalidTag as error:
            raise ValueError("a sealed secret does not open: was state_dir/keys restored with the database?") from error


def secret_hash(secret: str) -> bytes:
    """Return the SHA-256 under which a secret of 128 bits or more is looked up.

    A look-up compares byte by byte, and may tell by its time how far: of a hash whose bytes nobody can choose, and not
    of the secret.
    """
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def key_file(path: Path, make: Callable[[], bytes]) -> bytes:
    """Return the content of the private file `path`, making it once, mode 0600 in a 0700 directory, durably.

    Several processes may start at once: the first link wins and all return its content.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        # Not named by the process id: two containers on one state directory may both be process 1.
        temporary = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(make())
                file.flush()
                os.fsync(file.fileno())
            with suppress(FileExistsError):
                os.link(temporary, path)
        finally:
            temporary.unlink()
        sync_directory(path.parent)
    return path.read_bytes()
