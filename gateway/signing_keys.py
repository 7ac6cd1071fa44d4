"""This gateway's own keys: made at first start, kept as private files, published in a JWK Set or in discovery.

A new key gets a new number and never an old name, because peers pin what a `kid` means. Those of the JWK Set are
published at once and sign only after peers have had time to fetch them; the old ones stay published, so rotation has
no gap. Discovery has room for one `publicKey` alone, so the RSA key of draft-cavage is published and signs from the
same moment: Nextcloud, which keeps the key that it knows, asks for discovery anew, past its cache, when it meets a
name that it does not know, and then wants to find that very name (peers.md section 6).
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
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa_key

from gateway.ocm.cavage import ALGORITHM as CAVAGE
from gateway.ocm.cavage import CavageSigningKey
from gateway.ocm.keys import JWKSet, SigningKey, jwks_document
from gateway.store.sealing import key_file

ALGORITHMS: dict[str, Callable[[], object]] = {
    "Ed25519": Ed25519PrivateKey.generate,  # recommended by the draft
    "ES256": lambda: generate_private_key(SECP256R1()),  # for peers whose runtime lacks Ed25519
}
PUBLISHED_BEFORE_USE = 3600  # seconds; longer than peers cache a JWK Set
CAVAGE_BITS = 3072  # as strong as the others (NIST SP 800-57 part 1, table 2)

log = structlog.get_logger()

_FILE = re.compile(rf"(ed25519|es256|{CAVAGE})-([1-9][0-9]*)\.pem")

AnyKey = SigningKey | CavageSigningKey


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """One key as `keys list` shows it."""

    key: AnyKey
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
    def _keys(self) -> list[tuple[int, AnyKey]]:
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
        keys = [(created, key) for created, key in self._in_jwks() if key.alg == algorithm]
        settled = [key for created, key in keys if created + PUBLISHED_BEFORE_USE <= self._clock()]
        return settled[-1] if settled else keys[0][1]

    def cavage_key(self) -> CavageSigningKey:
        """Return the RSA key that signs, and that discovery shows: the newest; the first is made when it is asked for.

        Making one takes up to some seconds.
        """
        if not self._numbers(CAVAGE):
            self._make(CAVAGE, 1)
        return self._in_discovery()[-1]

    def public(self) -> JWKSet:
        """Return every key of the JWK Set, as peers see them and as our own tokens are checked with."""
        return JWKSet(tuple(key.public() for _, key in self._in_jwks()))

    def document(self) -> dict[str, object]:
        """Return the JWK Set that is published."""
        return jwks_document(key for _, key in self._in_jwks())

    def records(self) -> list[KeyRecord]:
        signing = {self.signing_key(algorithm).kid for algorithm in ALGORITHMS}
        signing |= {key.kid for key in self._in_discovery()[-1:]}
        return [KeyRecord(key, created, key.kid in signing) for created, key in self._keys]

    def rotate(self) -> list[KeyRecord]:
        """Make a new key of each kind that there is and return all keys; takes as long as `cavage_key`."""
        for algorithm in (*ALGORITHMS, CAVAGE):
            if numbers := self._numbers(algorithm):
                self._make(algorithm, max(numbers) + 1)
        return self.records()

    def _in_jwks(self) -> list[tuple[int, SigningKey]]:
        return [(created, key) for created, key in self._keys if isinstance(key, SigningKey)]

    def _in_discovery(self) -> list[CavageSigningKey]:
        return [key for _, key in self._keys if isinstance(key, CavageSigningKey)]

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

    def _load(self) -> list[tuple[int, AnyKey]]:
        """Return the keys with the times when they were made; raises OSError for a file that holds none."""
        keys: list[tuple[int, AnyKey]] = []
        for name, number, path in self._files():
            kind = CavageSigningKey if name == CAVAGE else SigningKey
            try:
                key = kind.from_pem(path.read_bytes(), f"{self._origin}/ocm#{name}-{number}")
            except ValueError as error:
                raise OSError(f"{path} holds no private key: {error}") from error
            keys.append((int(path.stat().st_mtime), key))
        return keys


def _new_pem(algorithm: str) -> bytes:
    if algorithm == CAVAGE:
        return CavageSigningKey(algorithm, generate_rsa_key(65537, CAVAGE_BITS)).to_pem()
    return SigningKey.from_private(ALGORITHMS[algorithm](), algorithm).to_pem()
