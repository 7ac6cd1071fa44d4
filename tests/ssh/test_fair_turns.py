"""No client keeps the event loop, or memory, by what it sends or does not take: not with many small packets, not in the
middle of an exchange of keys."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from gateway.ssh import connection
from gateway.ssh.connection import AT_ONCE, BEFORE_LOG_IN, UNSENT_MOST

from .raw_client import Ended, connected, string, u32
from .served import SshServed, wait_until

IGNORE = 2
MIB = 1 << 20


@pytest.fixture(scope="module")
def served(served: SshServed) -> SshServed:
    (served.data / "large").write_bytes(bytes(4 * MIB))
    return served


def asked(kind: int, *fields: bytes) -> bytes:
    body = bytes((kind,)) + b"".join(fields)
    return u32(len(body)) + body


def reads(count: int) -> bytes:
    size = 255 * 1024
    return b"".join(
        asked(5, u32(number), string(u32(1)), (number * size).to_bytes(8, "big"), u32(size)) for number in range(count)
    )


OPENED = asked(1, u32(3)) + asked(3, u32(0), string("/home/large"), u32(1), u32(0))


def test_nothing_gathers_while_the_client_does_not_finish_an_exchange_of_keys(served: SshServed) -> None:
    with connected(served.ssh_port) as client:
        client.log_in("alice", served.user)
        channel = client.open(window=2**32 - 1)
        assert client.request(channel, "subsystem", string("sftp"))
        client.send_data(channel, OPENED)
        serving = served.serving(client.socket)
        client.want_new_keys()
        client.send_data(channel, reads(16))
        wait_until(lambda: [each._send_buf_len > MIB for each in serving._channels.values()] == [True])
        assert sum(len(part) for _, parts in serving._deferred_packets for part in parts) < MIB
        assert all(each._send_buf_len < 3 * MIB for each in serving._channels.values())


def test_who_says_much_before_the_log_in_is_sent_away(served: SshServed) -> None:
    def flood() -> None:
        for _ in range(4 * BEFORE_LOG_IN // 1000):
            client.send(bytes((IGNORE,)) + string(bytes(1000)))
        client.wait_for_end()
        raise Ended

    with connected(served.ssh_port) as client:
        client.exchange_keys()
        with pytest.raises(Ended):
            flood()
        wait_until(lambda: not served.ssh._connections)


@pytest.mark.parametrize("is_in", [False, True])
def test_a_flood_of_small_packets_is_taken_in_turns(
    served: SshServed, monkeypatch: pytest.MonkeyPatch, is_in: bool
) -> None:
    taken, turns = [0], []
    opened, receive = connection.Connection._open, connection.Connection._receive

    def counted(*arguments: Any) -> None:
        taken[0] += 1
        opened(*arguments)

    def turn(*arguments: Any) -> None:
        taken[0] = 0
        receive(*arguments)
        turns.append(taken[0])

    monkeypatch.setattr(connection.Connection, "_open", counted)
    monkeypatch.setattr(connection.Connection, "_receive", turn)
    with connected(served.ssh_port) as client:
        if is_in:
            client.log_in("alice", served.user)
        else:
            client.exchange_keys()
        for _ in range(3000):
            client.send(bytes((IGNORE,)) + string(b""))
        wait_until(lambda: sum(turns) >= 2900)  # asyncssh takes those itself that come with the new keys
    assert max(turns) <= AT_ONCE


def test_answers_that_nobody_reads_stop_the_questions(served: SshServed) -> None:
    with connected(served.ssh_port) as client:
        client.log_in("alice", served.user)
        serving = served.serving(client.socket)
        serving._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
        client.socket.settimeout(3)  # for one question: longer than the door takes for it on any machine
        question = bytes((80,)) + string("keepalive@openssh.com") + b"\1"

        def flood() -> None:
            for _ in range(1_000_000):
                client.send(question)

        with pytest.raises(Ended):
            flood()
        assert not serving.has_room.is_set()
        assert serving._transport.get_write_buffer_size() < 2 * UNSENT_MOST
