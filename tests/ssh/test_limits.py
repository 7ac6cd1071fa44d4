"""How many may come in, from where, and how long they may be silent; the operator reads which setting it was."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from gateway.authorized_keys import COMMANDS_OF_ONE, WAITING_OF_ONE, AuthorizedKeys
from gateway.ssh.refusing import TRIES

from .raw_client import (
    CHANNEL_DATA,
    CHANNEL_WINDOW_ADJUST,
    GLOBAL_REQUEST,
    REQUEST_FAILURE,
    USERAUTH_FAILURE,
    Ended,
    RawClient,
    connected,
    string,
    u32,
)
from .served import SshServed, logged, public_key, wait_until

FEW = {"connections": 4, "connections_per_address": 2}
FAILURES = 5
CONTENT = bytes(3 << 20)


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServed]:
    with SshServed(tmp_path_factory.mktemp("few"), ssh=FEW, bounds={"logins": (FAILURES, 0.001)}) as served:
        yield served


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServed]:
    with SshServed(tmp_path_factory.mktemp("short"), ssh={"login_time": 1.0, "idle_time": 1.0}) as served:
        (served.data / "big").write_bytes(CONTENT)
        yield served


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServed]:
    with SshServed(tmp_path_factory.mktemp("asking"), ssh={"keepalive": 0.2}) as served:
        yield served


# --- how many -------------------------------------------------------------------------------------------------------


def test_connections_of_one_address_are_bounded(few: SshServed, log: list[Any]) -> None:
    with connected(few.ssh_port) as first, connected(few.ssh_port):
        for _ in range(2):
            with connected(few.ssh_port) as third:
                sentence = "Too many connections from your address; close some, or try again later"
                assert third.wait_for_end() == sentence
        with connected(few.ssh_port, "127.0.0.2") as elsewhere:
            elsewhere.log_in("alice", few.user)
        (line,) = logged(log, "ssh.full")  # once a minute, however many come
        assert (line["limit"], line["most"], line["client"]) == ("ssh.connections_per_address", 2, "127.0.0.1")
        first.close()
        wait_until(lambda: comes_in(few, "127.0.0.1"))


def test_connections_are_bounded_in_all(few: SshServed, log: list[Any]) -> None:
    with ExitStack() as stack:
        for source in ("127.0.1.1", "127.0.1.1", "127.0.1.2", "127.0.1.2"):
            stack.enter_context(connected(few.ssh_port, source))
        with connected(few.ssh_port, "127.0.1.3") as fifth:
            assert fifth.wait_for_end() == "Too many are connected now; try again later"
    (line,) = logged(log, "ssh.full")
    assert (line["limit"], line["most"]) == ("ssh.connections", 4)
    assert "ssh.connections" in line["hint"]
    wait_until(lambda: comes_in(few, "127.0.1.3"))


def test_openssh_shows_the_sentence(few: SshServed) -> None:
    with connected(few.ssh_port), connected(few.ssh_port):
        command = ["sftp", *few.options, "-P", str(few.ssh_port), "alice@127.0.0.1"]
        done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=20)
    assert b"Too many connections from your address; close some, or try again later" in done.stderr


def test_a_flood_gets_no_sentences_and_leaves_nothing(few: SshServed) -> None:
    with connected(few.ssh_port, "127.0.0.9"), connected(few.ssh_port, "127.0.0.9"):
        answers = []
        for _ in range(50):
            try:
                with connected(few.ssh_port, "127.0.0.9") as client:
                    answers.append(client.wait_for_end())
            except ConnectionError:
                answers.append("")
    assert "" in answers
    wait_until(lambda: comes_in(few, "127.0.0.9"))


def test_whoever_fails_again_and_again_is_turned_away_for_a_while(few: SshServed, log: list[Any]) -> None:
    for _ in range(FAILURES):
        with connected(few.ssh_port, "127.0.2.1") as client:
            client.begin()
            assert client.prove("nobody", few.user)[0] == USERAUTH_FAILURE
    wait_until(lambda: len(logged(log, "ssh.login.none")) == FAILURES)
    with connected(few.ssh_port, "127.0.2.1") as client:
        assert client.wait_for_end().startswith("Too many log-ins from your address have failed; try again in ")
    (line,) = logged(log, "limited")
    assert line["client"] == "127.0.2.1"
    assert "limits.logins" in line["hint"]
    assert comes_in(few, "127.0.2.2")


def test_who_only_looks_for_the_port_has_not_failed(few: SshServed) -> None:
    for _ in range(2 * FAILURES):
        connected_once(few, "127.0.2.3")
    assert comes_in(few, "127.0.2.3")


def test_the_network_of_a_subscriber_counts_as_one_address(few: SshServed) -> None:
    one, two, other = "2001:db8:1:2::1", "2001:db8:1:2:ffff::9", "2001:db8:1:3::1"
    for _ in range(FAILURES):
        few.ssh.note_failure(one)
    stranger: Any = object()
    assert few.ssh._admit(stranger, two) is not None
    assert few.ssh._admit(stranger, other) is None
    few.ssh._forget(stranger)


def test_strangers_who_ask_for_many_names_keep_nobody_from_elsewhere_out(
    asking: SshServed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: list[Any]
) -> None:
    """The program of keys is run for each name, and hangs for those of strangers."""
    go, key = tmp_path / "go", public_key(asking.guest).line
    script = f'case "$1" in user*) until [ -e {go} ] || [ ! -d {go.parent} ]; do sleep 0.02; done; esac; echo "{key}"'
    keys = AuthorizedKeys(command=("/bin/sh", "-c", script, "keys-of", "{user}"))
    monkeypatch.setattr(asking.access, "_authorized_keys", keys)
    monkeypatch.setattr("gateway.authorized_keys.COMMAND_TIME", 60.0)
    most = COMMANDS_OF_ONE + WAITING_OF_ONE
    with ExitStack() as stack:
        for number in range(most):
            stranger = stack.enter_context(connected(asking.ssh_port, "127.0.3.1")).begin()
            stranger.send(stranger.offering(f"user{number}", asking.guest))
        wait_until(lambda: keys._unanswered["127.0.3.1"] == most)
        with connected(asking.ssh_port, "127.0.3.1") as one_more:
            one_more.begin()
            one_more.send(one_more.offering("alice", asking.guest))
            assert one_more.wait_for_end() == "It cannot be checked now who you are; try again later"
        with connected(asking.ssh_port, "127.0.3.2") as alice:
            alice.log_in("alice", asking.guest)
        go.touch()
        wait_until(lambda: not keys._unanswered)
    (line,) = [line for line in logged(log, "ssh.login.refused") if line["login"] == "alice"]
    assert "from 127.0.3.1 wait for ssh.authorized_keys_command: make it faster, or block" in line["reason"]


def test_a_connection_may_try_some_keys_and_no_more(short: SshServed) -> None:
    """Whatever is asked: other names, other methods, and whether keys would do."""
    with connected(short.ssh_port) as client:
        client.begin()
        asked = 0
        reason = ""
        while not reason:
            try:
                ask_anything(client, asked, short)
                asked += 1
            except Ended as ended:
                reason = ended.reason
    assert asked == TRIES
    assert reason == "Too many keys were tried; name the right one: -o IdentitiesOnly=yes -i FILE"


# --- how long -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("far", ["connected", "greeted", "keys", "asked"])
def test_a_log_in_has_its_time(short: SshServed, far: str) -> None:
    begun = time.monotonic()
    with connected(short.ssh_port) as client:
        if far == "greeted":
            client.send_kexinit()
        elif far == "keys":
            client.exchange_keys()
        elif far == "asked":
            client.begin()
            client.ask("alice", "none")
        client.wait_for_end()
    assert 0.5 < time.monotonic() - begun < 10


def test_whoever_asks_for_nothing_is_let_go(short: SshServed) -> None:
    with connected(short.ssh_port) as client:
        client.log_in("alice", short.user)
        client.sftp()
        assert client.wait_for_end() == "Nothing was asked for within 1 s; connect again when you like"


def test_whoever_reads_slowly_is_at_work(short: SshServed) -> None:
    """A client of SCP says nothing while a file comes; what it takes of it is a sign of life."""
    with connected(short.ssh_port) as client:
        client.log_in("alice", short.user)
        channel = client.open(window=0)
        assert client.request(channel, "exec", string("scp -f /home/big"))
        client.send_data(channel, b"\0\0")
        until, taken = time.monotonic() + 2.5, 0
        while time.monotonic() < until:
            client.send(bytes((CHANNEL_WINDOW_ADJUST,)) + u32(channel) + u32(1000))
            taken += len(client.expect(CHANNEL_DATA)) - 9
            time.sleep(0.3)
        assert taken > 2000


def test_whoever_waits_for_the_storage_is_at_work(short: SshServed, monkeypatch: pytest.MonkeyPatch) -> None:
    stat = short.local.stat

    def slow(path: Any) -> Any:
        if path.name == b"big":
            time.sleep(2.5)
        return stat(path)

    monkeypatch.setattr(short.local, "stat", slow)
    with connected(short.ssh_port) as client:
        client.log_in("alice", short.user)
        channel = client.sftp()
        client.send_data(channel, u32(5) + b"\1" + u32(3) + u32(5 + 13) + b"\x11" + u32(7) + string("/home/big"))
        client.expect(CHANNEL_DATA)
        assert client.expect(CHANNEL_DATA)[13:18] == b"\x69" + u32(7)  # ATTRS


def test_a_client_that_does_not_answer_is_dead(asking: SshServed) -> None:
    begun = time.monotonic()
    with connected(asking.ssh_port) as client:
        client.log_in("alice", asking.user)
        client.wait_for_end()
    assert time.monotonic() - begun < 10


def test_a_client_that_asks_for_something_lives(asking: SshServed) -> None:
    """What it sends says so; it is not even asked, and need not answer."""
    with connected(asking.ssh_port) as client:
        client.log_in("alice", asking.user)
        channel = client.sftp()
        client.send_data(channel, u32(5) + b"\1" + u32(3))
        assert client.receive_until(CHANNEL_DATA)
        until = time.monotonic() + 2
        while time.monotonic() < until:  # ten times as long as it is silent when it is asked
            client.send_data(channel, u32(5 + 4 + 5) + b"\x11" + u32(7) + string("/home"))
            assert client.receive_until(CHANNEL_DATA)


def test_a_client_that_answers_is_not(asking: SshServed) -> None:
    with connected(asking.ssh_port) as client:
        client.log_in("alice", asking.user)
        for _ in range(8):
            answer_question(client)
        client.sftp()


# --- parts ----------------------------------------------------------------------------------------------------------


def comes_in(served: SshServed, source: str) -> bool:
    with connected(served.ssh_port, source) as client:
        try:
            client.log_in("alice", served.user)
        except Ended:
            return False
        return True


def ask_anything(client: RawClient, number: int, served: SshServed) -> None:
    match number % 4:
        case 0:
            client.ask(f"user{number}", "none")
        case 1:
            client.ask("alice", "password", b"\0" + string("x"))
        case 2:
            client.offer("alice", served.user)
        case _:
            client.offer("alice", served.guest)


def connected_once(served: SshServed, source: str) -> None:
    with connected(served.ssh_port, source) as client:
        assert client.banner.startswith(b"SSH-2.0-")


def answer_question(client: RawClient) -> None:
    while (payload := client.receive())[0] != GLOBAL_REQUEST or b"keepalive@openssh.com" not in payload:
        continue
    client.send(bytes((REQUEST_FAILURE,)))
