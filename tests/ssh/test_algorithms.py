"""What the door offers, as raw bytes and as README has it; and that nobody in between can weaken it (Terrapin)."""

from __future__ import annotations

import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_ssh_private_key

from gateway.store import user_keys
from gateway.store.user_keys import UserKey

from .raw_client import (
    DEBUG,
    EXT_INFO,
    IGNORE,
    KEXINIT,
    NEWKEYS,
    SERVICE_REQUEST,
    UNIMPLEMENTED,
    USERAUTH_FAILURE,
    USERAUTH_REQUEST,
    USERAUTH_SUCCESS,
    connected,
    string,
    strings,
    u32,
)
from .served import SshServed, logged, make_key, public_key, wait_until

README = (Path(__file__).parents[2] / "README.md").read_text()
MARKERS = ["ext-info-s", "kex-strict-s-v00@openssh.com"]  # RFC 8308; OpenSSH's PROTOCOL, section 1.10
HARMLESS = {  # packets that mean nothing (RFC 4253 section 11), and shift the numbers of those that follow
    "ignore": bytes((IGNORE,)) + string("x"),
    "debug": bytes((DEBUG, 0)) + string("x") + string(""),
    "unimplemented": bytes((UNIMPLEMENTED,)) + u32(0),
}


def told(row: str) -> list[str]:
    """Return what README says in a row of its table of algorithms."""
    (cell,) = re.findall(rf"^\| {re.escape(row)} \| (.*) \|$", README, re.MULTILINE)
    return re.findall(r"`([^`]+)`", cell)


def kexinit(served: SshServed) -> list[list[str]]:
    with connected(served.ssh_port) as client:
        client.send_kexinit()
        payload = client.receive()
    assert payload[0] == KEXINIT
    lists = [names.decode().split(",") for names in strings(payload[17:-5])]
    assert len(lists) == 10
    assert payload[-5:] == bytes(5)  # no guess follows
    return lists


def test_the_lists_are_those_of_readme(served: SshServed) -> None:
    exchange, host_keys, *rest = kexinit(served)
    assert exchange == [*told("key exchange"), *MARKERS]
    assert host_keys == told("host keys")
    assert rest == [told("ciphers")] * 2 + [told("MACs")] * 2 + [["none"]] * 2 + [[""]] * 2


def test_signatures_of_users_are_those_of_readme(served: SshServed) -> None:
    with connected(served.ssh_port) as client:
        client.exchange_keys()
        client.send(bytes((SERVICE_REQUEST,)) + string("ssh-userauth"))
        extensions = client.receive()
    assert extensions[0] == EXT_INFO
    found = [*strings(extensions[5:])]
    assert dict(zip(found[::2], found[1::2], strict=True))[b"server-sig-algs"].decode().split(",") == told(
        "users' keys"
    )


def test_nothing_weak_is_among_them(served: SshServed) -> None:
    offered = {name for names in kexinit(served) for name in names} | set(told("users' keys"))
    weak = re.compile(
        r"sha1|md5|cbc|arcfour|3des|ssh-rsa$|ssh-dss|group\d|group-exchange|^hmac-ripemd|umac-64|zlib|-96"
    )
    assert not [name for name in offered if weak.search(name)]


@pytest.mark.parametrize(
    "option",
    [
        "KexAlgorithms=diffie-hellman-group14-sha256",
        "KexAlgorithms=diffie-hellman-group14-sha1",
        "Ciphers=aes128-cbc",
        "Ciphers=3des-cbc",
        "MACs=hmac-sha1",
        "HostKeyAlgorithms=ssh-rsa",
    ],
)
def test_a_client_that_knows_only_what_is_weak_is_refused(served: SshServed, option: str) -> None:
    assert b"no matching" in listing(served, option, "Ciphers=aes128-ctr").stderr


def test_each_is_really_there(served: SshServed) -> None:
    """As far as OpenSSH's client here knows it, in a few combinations."""
    exchange, host_keys, ciphers = (
        [name for name in told(row) if name in known(query)]
        for row, query in (("key exchange", "kex"), ("host keys", "key-sig"), ("ciphers", "cipher"))
    )
    for number in range(max(map(len, (exchange, host_keys, ciphers)))):
        one, two, three = (names[number % len(names)] for names in (exchange, host_keys, ciphers))
        options = f"KexAlgorithms={one}", f"HostKeyAlgorithms={two}", f"Ciphers={three}"
        assert listing(served, *options).returncode == 0, options
    for mac in told("MACs"):
        assert listing(served, f"MACs={mac}", "Ciphers=aes256-ctr").returncode == 0, mac


@pytest.mark.parametrize(
    ("algorithm", "digest", "answer"),
    [
        ("rsa-sha2-256", hashes.SHA256(), USERAUTH_SUCCESS),
        ("rsa-sha2-512", hashes.SHA512(), USERAUTH_SUCCESS),
        ("ssh-rsa", hashes.SHA1(), USERAUTH_FAILURE),
        ("rsa2048-sha256", hashes.SHA256(), USERAUTH_FAILURE),
    ],
)
def test_no_signature_by_sha1_logs_in(
    served: SshServed, rsa_key: Path, algorithm: str, digest: hashes.HashAlgorithm, answer: int
) -> None:
    """It is the signature that says what it was made by, whatever the request says."""
    private = load_ssh_private_key(rsa_key.read_bytes(), None)
    assert isinstance(private, RSAPrivateKey)
    with connected(served.ssh_port) as client:
        client.begin()
        asked = bytes((USERAUTH_REQUEST,)) + string("alice") + string("ssh-connection") + string("publickey")
        asked += b"\1" + string("rsa-sha2-256") + string(public_key(rsa_key).blob)
        signature = private.sign(string(client.session) + asked, padding.PKCS1v15(), digest)
        client.send(asked + string(string(algorithm) + string(signature)))
        assert client.answer()[0] == answer


@pytest.fixture(scope="module")
def rsa_key(served: SshServed) -> Path:
    path = make_key(served.directory / "rsa", "-t", "rsa", "-b", "2048")
    served.store.run_sync(lambda tx: user_keys.add(tx, "alice", UserKey(public_key(path), "", 0)))
    return path


# --- Terrapin (CVE-2023-48795), as the scanner and the attack of its finders go about it ----------------------------


@pytest.mark.parametrize("what", HARMLESS)
@pytest.mark.parametrize("before", [KEXINIT, NEWKEYS], ids=["KEXINIT", "NEWKEYS"])
@pytest.mark.parametrize("side", ["door", "client"])
def test_a_packet_from_in_between_ends_the_connection(
    served: SshServed, log: list[Any], what: str, before: int, side: str
) -> None:
    """Without strict key exchange the attacker's packet would only shift the numbers, and both would go on."""
    with in_between(served.ssh_port, HARMLESS[what], before, towards_door=side == "door") as port:
        done = listing(served, "Ciphers=chacha20-poly1305@openssh.com", port=port)
    assert done.returncode != 0
    assert not done.stdout
    if side == "door":
        reason = "Strict key exchange violation"
        wait_until(lambda: any(line["reason"].startswith(reason) for line in logged(log, "ssh.login.none")))


def test_without_a_packet_from_in_between_all_is_well(served: SshServed) -> None:
    """So it was the packet."""
    with in_between(served.ssh_port, b"", NEWKEYS, towards_door=True) as port:
        done = listing(served, "Ciphers=chacha20-poly1305@openssh.com", port=port)
    assert done.returncode == 0, done.stderr


def listing(served: SshServed, *options: str, port: int | None = None) -> subprocess.CompletedProcess[bytes]:
    """Have OpenSSH's client list the root."""
    words = [word for option in (*options, f"HostKeyAlias=[127.0.0.1]:{served.ssh_port}") for word in ("-o", option)]
    command = ["sftp", *served.options, *words, "-i", str(served.user), "-P", str(port or served.ssh_port)]
    return subprocess.run([*command, "-b-", "alice@127.0.0.1"], input=b"ls\n", capture_output=True, timeout=20)


def known(query: str) -> list[str]:
    """Return what OpenSSH's client here knows."""
    return subprocess.run(["ssh", "-Q", query], capture_output=True, check=True, text=True).stdout.split()


@contextmanager
def in_between(port: int, payload: bytes, before: int, *, towards_door: bool) -> Iterator[int]:
    """Stand between one client and the door, and put a packet before one of a kind, towards one of them."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            client, _ = listener.accept()
            door = socket.create_connection(("127.0.0.1", port))
            with client, door:
                up = threading.Thread(target=carry, args=(client, door, payload if towards_door else b"", before))
                up.start()
                carry(door, client, b"" if towards_door else payload, before)
                up.join()

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


def carry(source: socket.socket, target: socket.socket, payload: bytes, before: int) -> None:
    reader = source.makefile("rb")
    try:
        target.sendall(reader.readline())
        kind = 0
        while kind != NEWKEYS:
            size = int.from_bytes(head := reader.read(4), "big")
            packet = reader.read(size)
            kind = packet[1]
            if kind == before and payload:
                target.sendall(plain(payload))
            target.sendall(head + packet)
        while data := reader.read1():
            target.sendall(data)
    except (OSError, IndexError):
        pass  # one of them has gone
    finally:
        reader.close()
        for end in (source, target):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue


def plain(payload: bytes) -> bytes:
    """Return a packet as it is before there are keys."""
    fill = 4 + -(4 + 1 + len(payload) + 4) % 8
    return u32(1 + len(payload) + fill) + bytes((fill,)) + payload + bytes(fill)
