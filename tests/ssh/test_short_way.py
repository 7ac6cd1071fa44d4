"""The short way of data through asyncssh: with every cipher the same bytes, also while keys are exchanged."""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path
from typing import Any

import pytest
from asyncssh.encryption import get_encryption

from gateway.ssh import algorithms, ciphers, connection
from gateway.ssh.ciphers import short_way

from ..dav.served import WRITE
from .served import SshServed

MIB = 1 << 20
CONTENT = os.urandom(5 * MIB + 12_345)
SHORT = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes192-ctr", "aes256-ctr")


@pytest.fixture(scope="module")
def served(served: SshServed) -> SshServed:
    (served.data / "shared").mkdir()
    (served.data / "shared/file").write_bytes(CONTENT)
    return served


def both_ways(served: SshServed, place: Path, *options: str) -> None:
    """Read and write a file with sftp, and compare."""
    login = served.login("shared", WRITE)
    (place / "up").write_bytes(CONTENT)
    done = served.sftp(f"get file {place}/down\nput {place}/up new\n", login, None, *options)
    assert done.returncode == 0, done.stderr
    assert (place / "down").read_bytes() == CONTENT
    assert (served.data / "shared/new").read_bytes() == CONTENT


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How many packets of data went the short way, in and out."""
    taken = {"in": 0, "out": 0}

    def counted(way: str, method: Any) -> Any:
        def call(*arguments: Any) -> Any:
            taken[way] += 1
            return method(*arguments)

        return call

    for way, name in (("in", "_take"), ("out", "_seal")):
        monkeypatch.setattr(connection.Connection, name, counted(way, getattr(connection.Connection, name)))
    return taken


@pytest.mark.parametrize("cipher", algorithms.ENCRYPTION)
@pytest.mark.parametrize("mac", ["hmac-sha2-256-etm@openssh.com", "hmac-sha2-512"])
def test_every_cipher_carries_the_same_bytes(
    served: SshServed, tmp_path: Path, taken: dict[str, int], cipher: str, mac: str
) -> None:
    both_ways(served, tmp_path, "-c", cipher, "-o", f"MACs={mac}")
    is_short = cipher in SHORT and ("gcm" in cipher or "etm" in mac)
    packets = len(CONTENT) // (32 * 1024)
    assert [count >= packets for count in taken.values()] == [is_short] * 2


@pytest.mark.parametrize("cipher", ["aes128-gcm@openssh.com", "aes128-ctr"])
def test_keys_are_exchanged_in_the_middle(
    served: SshServed, tmp_path: Path, taken: dict[str, int], cipher: str
) -> None:
    both_ways(served, tmp_path, "-c", cipher, "-o", "RekeyLimit=1M")
    assert min(taken.values()) > len(CONTENT) // (32 * 1024) * 0.9


def test_this_server_asks_for_new_keys_itself(
    served: SshServed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    send_kexinit, sealing_data = connection.Connection._send_kexinit, connection.Connection.sealing_data

    def send(self: Any) -> None:
        asked.append(self)
        send_kexinit(self)

    def soon(self: Any) -> Any:
        self._rekey_bytes = MIB  # asyncssh sets its own, 1 GiB, once somebody has logged in
        return sealing_data(self)

    monkeypatch.setattr(connection.Connection, "_send_kexinit", send)
    monkeypatch.setattr(connection.Connection, "sealing_data", soon)
    both_ways(served, tmp_path, "-c", "aes128-gcm@openssh.com")
    assert len(asked) >= len(CONTENT) // MIB  # the first one included; a flush may go a little beyond


def pair(cipher: str) -> tuple[Any, Any]:
    """Return asyncssh's own cipher twice, with the same keys: one for either end."""
    size = 32 if "256" in cipher else 16
    iv = bytes(12 if "gcm" in cipher else 16)
    more = () if "gcm" in cipher else (b"hmac-sha2-256-etm@openssh.com", b"m" * 32, True)
    one, other = (get_encryption(cipher.encode(), b"k" * size, iv, *more) for _ in range(2))
    return one, other


@pytest.mark.parametrize("cipher", ["aes128-gcm@openssh.com", "aes256-ctr"])
def test_what_is_sealed_is_what_asyncssh_would_send(cipher: str) -> None:
    """Packet after packet: the counters go on alike."""
    ours, theirs = pair(cipher)
    short = short_way(ours)
    assert short is not None
    for number in range(5):
        packet = os.urandom(16 * (number + 1))
        head = struct.pack(">I", len(packet))
        sealed = b"".join(short.seal(number, head, packet))
        assert sealed == b"".join(theirs.encrypt_packet(number, head, packet))


@pytest.mark.parametrize("cipher", ["aes128-gcm@openssh.com", "aes256-ctr"])
def test_what_was_changed_on_the_way_is_not_opened(cipher: str) -> None:
    ours, theirs = pair(cipher)
    short, sender = short_way(ours), short_way(theirs)
    assert short is not None
    assert sender is not None
    head = struct.pack(">I", 32)
    sealed = bytearray(b"".join(sender.seal(7, head, b"p" * 32)))
    sealed[10] ^= 1
    assert short.open(7, memoryview(sealed)[:4], memoryview(sealed)[4:]) is None


def test_ciphers_of_another_kind_go_asyncsshs_own_way() -> None:
    for cipher, more in (("chacha20-poly1305@openssh.com", ()), ("aes128-ctr", (b"hmac-sha2-256", b"m" * 32, False))):
        size = 64 if "chacha" in cipher else 16
        assert short_way(get_encryption(cipher.encode(), b"k" * size, bytes(16), *more)) is None
    assert short_way(None) is None


def test_rubbish_after_the_exchange_of_keys_ends_the_connection(served: SshServed) -> None:
    """The length of a packet is absurd: nothing is waited for."""
    with socket.create_connection(("127.0.0.1", served.ssh_port), timeout=20) as client:
        client.sendall(b"SSH-2.0-test\r\n" + struct.pack(">I", 1 << 31) + bytes(64))
        while client.recv(65536):
            pass


def test_the_inside_of_asyncssh_is_still_what_this_needs() -> None:
    """Whoever takes another version finds out here what has changed."""
    made, _ = pair("aes128-gcm@openssh.com")
    assert {"_key", "_iv"} <= vars(made._cipher).keys()
    made, _ = pair("aes128-ctr")
    assert {"_key", "_hash_alg", "_hash_size"} <= vars(made._mac).keys()
    assert ciphers.BLOCK == 16
