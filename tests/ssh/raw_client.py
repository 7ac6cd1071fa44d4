"""A client of SSH that says whatever a test wants, byte by byte, and knows nothing of the libraries that the door uses.

It speaks curve25519-sha256 (RFC 8731) and aes128-gcm@openssh.com (RFC 5647), believes every host key, and judges
nothing: a test sends payloads (RFC 4253 section 6) and looks at those that come back.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_private_key

DISCONNECT, IGNORE, UNIMPLEMENTED, DEBUG, SERVICE_REQUEST, SERVICE_ACCEPT, EXT_INFO = 1, 2, 3, 4, 5, 6, 7
KEXINIT, NEWKEYS, KEX_ECDH_INIT, KEX_ECDH_REPLY = 20, 21, 30, 31
USERAUTH_REQUEST, USERAUTH_FAILURE, USERAUTH_SUCCESS, USERAUTH_PK_OK = 50, 51, 52, 60
GLOBAL_REQUEST, REQUEST_SUCCESS, REQUEST_FAILURE = 80, 81, 82
CHANNEL_OPEN, CHANNEL_OPEN_CONFIRMATION, CHANNEL_OPEN_FAILURE, CHANNEL_WINDOW_ADJUST = 90, 91, 92, 93
CHANNEL_DATA, CHANNEL_EXTENDED_DATA, CHANNEL_EOF, CHANNEL_CLOSE = 94, 95, 96, 97
CHANNEL_REQUEST, CHANNEL_SUCCESS, CHANNEL_FAILURE = 98, 99, 100

VERSION = b"SSH-2.0-raw"
STRICT = b"kex-strict-c-v00@openssh.com"
_LISTS = (  # of KEXINIT (RFC 4253 section 7.1), as this client fills them
    *(b"curve25519-sha256,ext-info-c," + STRICT, b"ssh-ed25519", b"aes128-gcm@openssh.com", b"aes128-gcm@openssh.com"),
    *(b"hmac-sha2-256", b"hmac-sha2-256", b"none", b"none", b"", b""),
)


class Ended(Exception):
    """The door has closed the connection; `reason` is what it said, if it said why."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


def u32(number: int) -> bytes:
    return struct.pack(">I", number)


def string(data: bytes | str) -> bytes:
    data = data.encode() if isinstance(data, str) else data
    return u32(len(data)) + data


def strings(data: bytes) -> Iterator[bytes]:
    """Take `data` apart into strings, as far as it holds some."""
    while len(data) >= 4:
        (size,) = struct.unpack_from(">I", data)
        yield data[4 : 4 + size]
        data = data[4 + size :]


@dataclass
class _Direction:
    """The key, and the nonce of the next packet."""

    cipher: AESGCM
    fixed: bytes
    counter: int

    def nonce(self) -> bytes:
        self.counter, now = (self.counter + 1) & (2**64 - 1), self.counter
        return self.fixed + struct.pack(">Q", now)


class RawClient:
    """One connection, as far as a test has taken it."""

    def __init__(self, port: int, source: str = "127.0.0.1") -> None:
        """Connect from one of this machine's addresses, and read the other side's version."""
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20, source_address=(source, 0))
        self._in: _Direction | None = None
        self._out: _Direction | None = None
        self._read = self.socket.makefile("rb")
        self.session = b""
        self.banner = self._read.readline()

    def close(self) -> None:
        self._read.close()
        self.socket.close()

    # Packets

    def send(self, payload: bytes, *, padding: int | None = None, said: int | None = None) -> None:
        """Send a packet; `padding` so many bytes of it, and `said` what it says about them, both as they should be."""
        fixed = 0 if self._out else 4
        if padding is None:
            block = 16 if self._out else 8
            padding = 4 + -(fixed + 1 + len(payload) + 4) % block
        packet = bytes((padding if said is None else said,)) + payload + bytes(padding)
        self.send_packet(packet)

    def send_packet(self, packet: bytes) -> None:
        """Send what stands behind the length of a packet."""
        head = u32(len(packet))
        if self._out:
            packet = self._out.cipher.encrypt(self._out.nonce(), packet, head)
        self.send_bytes(head + packet)

    def send_bytes(self, data: bytes) -> None:
        try:
            self.socket.sendall(data)
        except OSError as error:
            raise Ended from error

    def receive(self) -> bytes:
        """Return the next payload; raises Ended, also for DISCONNECT."""
        head = self._exactly(4)
        (size,) = struct.unpack(">I", head)
        packet = self._exactly(size + (16 if self._in else 0))
        if self._in:
            packet = self._in.cipher.decrypt(self._in.nonce(), packet, head)
        payload = packet[1 : -packet[0]]
        if payload[0] == DISCONNECT:
            raise Ended(next(strings(payload[5:])).decode())
        return payload

    def expect(self, *kinds: int) -> bytes:
        """Return the next payload, which is of one of `kinds`; what a server may say at any time is read over."""
        while (payload := self.receive())[0] in (EXT_INFO, GLOBAL_REQUEST, CHANNEL_WINDOW_ADJUST, IGNORE, DEBUG):
            continue
        assert payload[0] in kinds, payload
        return payload

    def receive_until(self, kind: int) -> bytes:
        """Return the next payload of a kind, whatever comes before it."""
        while (payload := self.receive())[0] != kind:
            continue
        return payload

    def wait_for_end(self) -> str:
        """Read until the door closes, and return what it said about that."""
        try:
            while True:
                self.receive()
        except Ended as ended:
            return ended.reason

    def _exactly(self, size: int) -> bytes:
        try:
            data = self._read.read(size)
        except ConnectionError as error:
            raise Ended from error
        if len(data) < size:
            raise Ended
        return data

    # Keys and log-in

    def send_kexinit(self) -> bytes:
        self.socket.sendall(VERSION + b"\r\n")
        return self.want_new_keys()

    def want_new_keys(self) -> bytes:
        """Begin an exchange of keys, and return what was said."""
        mine = bytes((KEXINIT,)) + os.urandom(16) + b"".join(map(string, _LISTS)) + bytes(5)
        self.send(mine)
        return mine

    def exchange_keys(self) -> RawClient:
        """Exchange versions and keys."""
        mine, theirs = self.send_kexinit(), self.receive()
        private = X25519PrivateKey.generate()
        public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.send(bytes((KEX_ECDH_INIT,)) + string(public))
        host_key, point, _ = strings(self.receive()[1:])
        shared = private.exchange(X25519PublicKey.from_public_bytes(point)).lstrip(b"\0")
        number = string((b"\0" if shared[0] & 0x80 else b"") + shared)
        known = (VERSION, self.banner.rstrip(b"\r\n"), mine, theirs, host_key, public, point)
        exchanged = sha256(b"".join(map(string, known)) + number).digest()
        self.session = self.session or exchanged
        assert self.receive() == bytes((NEWKEYS,))
        self.send(bytes((NEWKEYS,)))

        def derive(letter: bytes) -> bytes:
            return sha256(number + exchanged + letter + self.session).digest()

        self._out, self._in = (_direction(derive(key), derive(nonce)) for key, nonce in ((b"C", b"A"), (b"D", b"B")))
        return self

    def begin(self) -> RawClient:
        """Exchange keys, and ask for the log-in's service."""
        self.exchange_keys()
        self.send(bytes((SERVICE_REQUEST,)) + string("ssh-userauth"))
        self.expect(SERVICE_ACCEPT)
        return self

    def ask(self, name: bytes | str, method: str, rest: bytes = b"") -> bytes:
        """Try to log in, and return the answer."""
        self.send(_asking(name, method) + rest)
        return self.answer()

    def answer(self) -> bytes:
        return self.expect(USERAUTH_FAILURE, USERAUTH_SUCCESS, USERAUTH_PK_OK)

    def offer(self, name: bytes | str, key: Path) -> bytes:
        """Ask whether a key would do."""
        self.send(self.offering(name, key))
        return self.answer()

    def prove(self, name: bytes | str, key: Path) -> bytes:
        """Log in with an Ed25519 key."""
        self.send(self.proving(name, key))
        return self.answer()

    def offering(self, name: bytes | str, key: Path) -> bytes:
        return _asking(name, "publickey") + b"\0" + string("ssh-ed25519") + string(_blob(_private(key)))

    def proving(self, name: bytes | str, key: Path) -> bytes:
        """Return what logs in with a key (RFC 4252 section 7)."""
        private = _private(key)
        signed = _asking(name, "publickey") + b"\1" + string("ssh-ed25519") + string(_blob(private))
        return signed + string(string("ssh-ed25519") + string(private.sign(string(self.session) + signed)))

    def give_password(self, name: bytes | str, password: bytes | str) -> bytes:
        return self.ask(name, "password", b"\0" + string(password))

    def log_in(self, name: str, key: Path) -> RawClient:
        self.begin()
        assert self.prove(name, key)[0] == USERAUTH_SUCCESS
        return self

    # Channels

    def open(self, number: int = 0, window: int = 1 << 20) -> int:
        """Open a session, and return the door's number of it."""
        self.send(bytes((CHANNEL_OPEN,)) + string("session") + u32(number) + u32(window) + u32(32768))
        answer = self.expect(CHANNEL_OPEN_CONFIRMATION)
        return int.from_bytes(answer[5:9], "big")

    def send_request(self, channel: int, kind: str, rest: bytes = b"", *, wants_answer: bool = True) -> None:
        self.send(bytes((CHANNEL_REQUEST,)) + u32(channel) + string(kind) + bytes((wants_answer,)) + rest)

    def request(self, channel: int, kind: str, rest: bytes = b"") -> bool:
        """Make a request on a channel, and tell whether it was granted; what is said meanwhile is dropped."""
        self.send_request(channel, kind, rest)
        answer = self.expect(CHANNEL_SUCCESS, CHANNEL_FAILURE, CHANNEL_EXTENDED_DATA)
        while answer[0] == CHANNEL_EXTENDED_DATA:
            answer = self.expect(CHANNEL_SUCCESS, CHANNEL_FAILURE, CHANNEL_EXTENDED_DATA)
        return answer[0] == CHANNEL_SUCCESS

    def send_data(self, channel: int, data: bytes) -> None:
        for begin in range(0, len(data), 32768):
            self.send(bytes((CHANNEL_DATA,)) + u32(channel) + string(data[begin : begin + 32768]))

    def receive_data(self, size: int) -> bytes:
        """Return so many bytes of the one channel that is open."""
        data = b""
        while len(data) < size:
            data += self.expect(CHANNEL_DATA)[9:]
        return data

    def sftp(self) -> int:
        """Open a channel for SFTP, and return its number."""
        channel = self.open()
        assert self.request(channel, "subsystem", string("sftp"))
        return channel


@contextmanager
def connected(port: int, source: str = "127.0.0.1") -> Iterator[RawClient]:
    client = RawClient(port, source)
    try:
        yield client
    finally:
        client.close()


def _asking(name: bytes | str, method: str) -> bytes:
    return bytes((USERAUTH_REQUEST,)) + string(name) + string("ssh-connection") + string(method)


def _private(key: Path) -> Ed25519PrivateKey:
    private = load_ssh_private_key(key.read_bytes(), None)
    assert isinstance(private, Ed25519PrivateKey)
    return private


def _blob(private: Ed25519PrivateKey) -> bytes:
    public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return string("ssh-ed25519") + string(public)


def _direction(key: bytes, nonce: bytes) -> _Direction:
    return _Direction(AESGCM(key[:16]), nonce[:4], int.from_bytes(nonce[4:12], "big"))
