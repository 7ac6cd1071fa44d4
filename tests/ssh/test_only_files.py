"""What is not served, however it is asked for: no shell, no terminal, nothing forwarded; and no such wish is kept."""

from __future__ import annotations

import subprocess
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest

from .raw_client import (
    CHANNEL_CLOSE,
    CHANNEL_DATA,
    CHANNEL_EXTENDED_DATA,
    CHANNEL_OPEN,
    CHANNEL_OPEN_CONFIRMATION,
    CHANNEL_OPEN_FAILURE,
    CHANNEL_REQUEST,
    CHANNEL_WINDOW_ADJUST,
    GLOBAL_REQUEST,
    REQUEST_FAILURE,
    USERAUTH_REQUEST,
    RawClient,
    connected,
    string,
    u32,
)
from .served import SshServed, logged, wait_until

INIT = u32(5) + b"\1" + u32(3)
SENTENCE = b"Only files are served here: use sftp, scp, sshfs or rclone.\r\n"


@pytest.fixture
def client(served: SshServed) -> Iterator[RawClient]:
    with connected(served.ssh_port) as client:
        yield client.log_in("alice", served.user)


def still_serves(client: RawClient) -> None:
    """Make sure that the same connection is as good as ever."""
    channel = client.sftp()
    client.send_data(channel, INIT)
    assert client.receive_data(9)[4] == 2  # VERSION


# --- sessions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command", [[], ["ls"], ["sh", "-c", "'touch /tmp/x'"], ["scp"], ["scp -t a; ls"], ["sftp-server"]]
)
def test_a_person_is_told_what_is_served(served: SshServed, command: list[str], log: list[Any]) -> None:
    words = ["ssh", *served.options, "-T", "-i", str(served.user), "-p", str(served.ssh_port), "alice@127.0.0.1"]
    done = subprocess.run([*words, *command], stdin=subprocess.DEVNULL, capture_output=True, timeout=20)
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", SENTENCE)
    (line,) = logged(log, "ssh.refused")
    assert line["principal"] == "user:alice"


@pytest.mark.parametrize(
    ("kind", "rest"),
    [
        ("pty-req", string("xterm") + u32(80) + u32(24) + u32(0) + u32(0) + string(b"\0")),
        ("x11-req", b"\0" + string("MIT-MAGIC-COOKIE-1") + string("00" * 16) + u32(0)),
        ("auth-agent-req@openssh.com", b""),
        ("env", string("LD_PRELOAD") + string("/tmp/x.so")),
        ("window-change", u32(80) + u32(24) + u32(0) + u32(0)),
        ("signal", string("KILL")),
        ("break", u32(500)),
        ("exit-status", u32(0)),
        ("xon-xoff", b"\1"),
        ("subsystem", string("netconf")),
        ("subsystem", string("")),
        ("subsystem", string(b"\xff")),
        ("nonsense@example.org", b"x" * 1000),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_requests_are_refused_before_and_after(client: RawClient, kind: str, rest: bytes) -> None:
    channel = client.open()
    assert not client.request(channel, kind, rest)
    if kind != "subsystem":
        assert client.request(channel, "subsystem", string("sftp"))
        assert not client.request(channel, kind, rest)
        client.send_data(channel, INIT)
        assert client.receive_data(9)[4] == 2


def test_a_channel_serves_once(client: RawClient) -> None:
    channel = client.sftp()
    for kind, rest in (("subsystem", string("sftp")), ("exec", string("scp -f .")), ("shell", b"")):
        assert not client.request(channel, kind, rest)
    client.send_data(channel, INIT)
    assert client.receive_data(9)[4] == 2


def test_sessions_of_a_connection_are_bounded_whatever_is_done_with_them(client: RawClient) -> None:
    """Also those that ask for nothing, or whose client does not close them."""
    idle = [client.open(number) for number in range(4)]
    for number in range(4, 9):
        assert client.request(client.open(number), "subsystem", string("sftp"))
    assert client.request(client.open(9), "shell")
    client.send(open_session(10))
    assert b"at most 10 sessions" in client.receive_until(CHANNEL_OPEN_FAILURE)
    client.send(bytes((CHANNEL_CLOSE,)) + u32(idle[0]))
    client.receive_until(CHANNEL_CLOSE)
    client.send(open_session(10))
    client.receive_until(CHANNEL_OPEN_CONFIRMATION)


@pytest.mark.parametrize("size", [0, 1, 1023])
def test_what_is_read_byte_by_byte_is_not_sent(client: RawClient, size: int) -> None:
    """A READ of 25 bytes would have us make a quarter of a million packets."""
    client.send(bytes((CHANNEL_OPEN,)) + string("session") + u32(0) + u32(1 << 20) + u32(size))
    assert client.wait_for_end()


def test_data_before_it_is_said_what_for_ends_the_connection(client: RawClient) -> None:
    """They would have to be kept."""
    channel = client.open()
    client.send_data(channel, b"x")
    assert client.wait_for_end() == "Data came before it was said what they are for"


@pytest.mark.parametrize(
    "payload",
    [
        bytes((CHANNEL_EXTENDED_DATA,)) + u32(0) + u32(1) + string("x"),
        bytes((CHANNEL_DATA,)) + u32(0) + u32(1000) + b"short",
        bytes((CHANNEL_DATA,)) + u32(0) + u32(2**32 - 1) + b"short",
        bytes((CHANNEL_DATA,)) + u32(0),
        bytes((CHANNEL_DATA,)) + u32(77) + string("x"),
        bytes((CHANNEL_DATA,)) + b"\0",
        bytes((CHANNEL_DATA,)),
        bytes((CHANNEL_WINDOW_ADJUST,)) + u32(0),
        bytes((CHANNEL_REQUEST,)) + u32(0) + string(b"\xff") + b"\1",
        bytes((USERAUTH_REQUEST,)) + string("bob") + string("ssh-connection") + string("none"),
    ],
    ids=lambda payload: payload[:14].hex(),
)
def test_what_no_client_says_ends_the_connection(served: SshServed, client: RawClient, payload: bytes) -> None:
    client.sftp()
    client.send(payload)
    client.wait_for_end()
    wait_until(lambda: not served.ssh._running)


@pytest.mark.parametrize("stage", ["keys", "in"])
@pytest.mark.parametrize(
    "packet",
    [b"", b"\0", b"\4", b"\xff" * 16, bytes(16), b"\0\x5e" + bytes(14)],
    ids=["empty", "none", "short", "much", "zeros", "unpadded"],
)
def test_packets_that_hold_nothing_end_the_connection(served: SshServed, stage: str, packet: bytes) -> None:
    with connected(served.ssh_port) as client:
        if stage == "keys":
            client.exchange_keys()
        else:
            client.log_in("alice", served.user)
            client.sftp()
        client.send_packet(packet)
        client.wait_for_end()


# --- forwarding -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "rest"),
    [
        ("direct-tcpip", string("127.0.0.1") + u32(22) + string("127.0.0.1") + u32(1)),
        ("direct-streamlocal@openssh.com", string("/run/docker.sock") + string("") + u32(0)),
        ("tun@openssh.com", u32(1) + u32(0)),
        ("forwarded-tcpip", string("127.0.0.1") + u32(22) + string("127.0.0.1") + u32(1)),
        ("x11", string("127.0.0.1") + u32(1)),
        ("auth-agent@openssh.com", b""),
        ("nonsense", b""),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_no_channel_leads_elsewhere(client: RawClient, kind: str, rest: bytes) -> None:
    client.send(bytes((CHANNEL_OPEN,)) + string(kind) + u32(0) + u32(1 << 20) + u32(32768) + rest)
    assert client.expect(CHANNEL_OPEN_FAILURE)
    still_serves(client)


@pytest.mark.parametrize(
    ("kind", "rest"),
    [
        ("tcpip-forward", string("0.0.0.0") + u32(0)),
        ("cancel-tcpip-forward", string("0.0.0.0") + u32(22)),
        ("streamlocal-forward@openssh.com", string("/tmp/listen")),
        ("cancel-streamlocal-forward@openssh.com", string("/tmp/listen")),
        ("hostkeys-prove-00@openssh.com", string(b"no key of ours")),
        ("no-more-sessions@openssh.com", b""),
        ("nonsense", b""),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_nothing_is_listened_for(client: RawClient, kind: str, rest: bytes) -> None:
    """Also when it is asked for in the same breath a thousand times."""
    for _ in range(1000):
        client.send(bytes((GLOBAL_REQUEST,)) + string(kind) + b"\1" + rest)
    for _ in range(1000):
        client.expect(REQUEST_FAILURE)
    still_serves(client)


# --- nothing is kept ------------------------------------------------------------------------------------------------


def test_what_is_asked_for_in_vain_is_forgotten(client: RawClient) -> None:
    channel = client.open()
    ask_in_vain(client, channel, 200)
    tracemalloc.start()
    try:
        ask_in_vain(client, channel, 2000)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 4_000_000, held  # timers that have not come to their end yet; kept, it would be 8 MB


def ask_in_vain(client: RawClient, channel: int, times: int) -> None:
    for number in range(times):
        client.send_request(channel, "env", string(f"NAME{number}") + string("x" * 4000), wants_answer=False)
        client.send_request(channel, "x11-req", b"\0" + string("a") + string("00") + u32(0), wants_answer=False)
        client.send_request(channel, "auth-agent-req@openssh.com", wants_answer=False)
    assert not client.request(channel, "env", string("LAST") + string("x"))


def open_session(number: int) -> bytes:
    return bytes((CHANNEL_OPEN,)) + string("session") + u32(number) + u32(1 << 20) + u32(32768)
