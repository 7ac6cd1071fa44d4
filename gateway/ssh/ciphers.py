"""Packets opened and sealed in one step, with the keys and counters of asyncssh's own ciphers.

    AES-GCM                           RFC 5647; also for aes256-gcm
    AES-CTR, encrypt-then-MAC         RFC 4344 section 4, OpenSSH's PROTOCOL section 1.5

In both the length stands before a packet in clear. Any other cipher is asyncssh's own affair.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from typing import Any, Protocol

from asyncssh.encryption import Encryption, ETMEncryption, GCMEncryption
from asyncssh.mac import _HMAC
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

BLOCK = 16  # bytes, of AES


class Cipher(Protocol):
    """One direction of a connection, between two exchanges of keys; `tag` bytes follow each packet."""

    tag: int

    def open(self, number: int, head: memoryview, body: memoryview) -> bytes | None:
        """Return the packet with this sequence number, from its padding's length on; None where it is not genuine."""

    def seal(self, number: int, head: bytes, packet: bytes) -> Sequence[bytes]:
        """Return what is sent for a packet."""


class _Gcm:
    tag = 16

    def __init__(self, encryption: Any) -> None:
        self._counter = encryption._cipher
        self._aes = AESGCM(encryption._cipher._key)  # made once: that takes as long as a packet

    def open(self, _number: int, head: memoryview, body: memoryview) -> bytes | None:
        try:
            return self._aes.decrypt(self._counter._iv, body, head)
        except InvalidTag:
            return None
        finally:
            self._counter._update_iv()

    def seal(self, _number: int, head: bytes, packet: bytes) -> Sequence[bytes]:
        sealed = self._aes.encrypt(self._counter._iv, packet, head)
        self._counter._update_iv()
        return head, sealed


class _EncryptThenMac:
    def __init__(self, encryption: Any) -> None:
        self._cipher = encryption._cipher
        mac = encryption._mac
        self._key, self._hash, self.tag = mac._key, mac._hash_alg, mac._hash_size

    def open(self, number: int, head: memoryview, body: memoryview) -> bytes | None:
        sealed, tag = body[: -self.tag], body[-self.tag :]
        genuine = hmac.compare_digest(self._sign(number, head, sealed), tag)
        return bytes(self._cipher.decrypt(sealed)) if genuine else None

    def seal(self, number: int, head: bytes, packet: bytes) -> Sequence[bytes]:
        sealed = self._cipher.encrypt(packet)
        return head, sealed, self._sign(number, head, sealed)

    def _sign(self, number: int, head: bytes | memoryview, sealed: bytes | memoryview) -> bytes:
        signed = b"".join((number.to_bytes(4, "big"), head, sealed))
        return hmac.digest(self._key, signed, self._hash)[: self.tag]


def short_way(encryption: Encryption | None) -> Cipher | None:
    """Return the same cipher as asyncssh's `encryption`, None for one of another kind."""
    if type(encryption) is GCMEncryption:
        return _Gcm(encryption)
    if type(encryption) is ETMEncryption and type(encryption._mac) is _HMAC:
        return _EncryptThenMac(encryption)
    return None


class Opened(Encryption):
    """Stands for a cipher while asyncssh takes a packet that was opened already, or found not to be genuine."""

    def __init__(self, packet: bytes | None) -> None:
        self._packet = packet

    def decrypt_header(self, seq: int, first_block: bytes, header_len: int) -> tuple[bytes, bytes]:
        return first_block, first_block[:header_len]

    def decrypt_packet(self, seq: int, first: bytes, rest: bytes, header_len: int, mac: bytes) -> bytes | None:
        return self._packet
