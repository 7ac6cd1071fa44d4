"""This gateway's own keys: made at first start, kept as private files, published as a JWK Set.

A new key gets a new number and never an old name, because peers pin what a `kid` means. It is published at once
and signs only after peers have had time to fetch it; the old one stays published, so rotation has no gap.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.ocm.keys import JWKSet, SigningKey, jwks_document
from gateway.store.sealing import key_file

ALGORITHMS: dict[str, Callable[[], object]] = {
    "Ed25519": Ed25519PrivateKey.generate,  # recommended by the draft
    "ES256": lambda: generate_private_key(SECP256R1()),  # for peers whose runtime lacks Ed25519
}
PUBLISHED_BEFORE_USE = 3600  # seconds; longer than peers cache a JWK Set

log = structlog.get_logger()

_FILE = re.compile(r"(ed25519|es256)-([1-9][0-9]*)\.pem")


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """One key as `keys list` shows it."""

    key: SigningKey
    created: int
    signs: bool


class SigningKeys:
    """The key files in one directory."""

    def __init__(self, directory: Path, origin: str, clock: Callable[[], float] = time.time) -> None:
        self._directory = directory
        self._origin = origin
        self._clock = clock
        for algorithm in ALGORITHMS:
            if not self._numbers(algorithm):
                self._make(algorithm, 1)
        self._names = self._numbered()
        self._read = self._load()

    @property
    def _keys(self) -> list[tuple[int, SigningKey]]:
        """The keys, read anew when another process has made some; under its name a key never changes."""
        names = self._numbered()
        if names != self._names:
            self._names = names
            try:
                self._read = self._load()
            except OSError as error:
                log.warning("the keys on disk cannot be read; those known go on", reason=str(error))
        return self._read

    def _numbered(self) -> list[str]:
        return [path.name for _, _, path in self._files()]

    def signing_key(self, algorithm: str = "Ed25519") -> SigningKey:
        """Return the key to sign with: the newest that peers have had time to fetch, else the oldest."""
        keys = [(created, key) for created, key in self._keys if key.alg == algorithm]
        settled = [key for created, key in keys if created + PUBLISHED_BEFORE_USE <= self._clock()]
        return settled[-1] if settled else keys[0][1]

    def public(self) -> JWKSet:
        """Return every key, as peers see them and as our own tokens are checked with."""
        return JWKSet(tuple(key.public() for _, key in self._keys))

    def document(self) -> dict[str, object]:
        """Return the JWK Set that is published."""
        return jwks_document(key for _, key in self._keys)

    def records(self) -> list[KeyRecord]:
        signing = {self.signing_key(algorithm).kid for algorithm in ALGORITHMS}
        return [KeyRecord(key, created, key.kid in signing) for created, key in self._keys]

    def rotate(self) -> list[KeyRecord]:
        """Make a new key of each algorithm and return all keys."""
        for algorithm in ALGORITHMS:
            self._make(algorithm, max(self._numbers(algorithm)) + 1)
        return self.records()

    def _make(self, algorithm: str, number: int) -> None:
        key_file(self._directory / f"{algorithm.lower()}-{number}.pem", lambda: _new_pem(algorithm))

    def _numbers(self, algorithm: str) -> list[int]:
        return [number for name, number, _ in self._files() if name == algorithm.lower()]

    def _files(self) -> list[tuple[str, int, Path]]:
        try:
            names = os.listdir(self._directory)
        except FileNotFoundError:
            return []
        found = (match for match in map(_FILE.fullmatch, names) if match)
        return sorted((match[1], int(match[2]), self._directory / match[0]) for match in found)

    def _load(self) -> list[tuple[int, SigningKey]]:
        """Return the keys with the times when they were made; raises OSError for a file that holds none."""
        keys = []
        for name, number, path in self._files():
            try:
                key = SigningKey.from_pem(path.read_bytes(), f"{self._origin}/ocm#{name}-{number}")
            except ValueError as error:
                raise OSError(f"{path} holds no private key: {error}") from error
            keys.append((int(path.stat().st_mtime), key))
        return keys


def _new_pem(algorithm: str) -> bytes:
    return SigningKey.from_private(ALGORITHMS[algorithm](), algorithm).to_pem()
