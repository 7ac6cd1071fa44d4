"""Who comes in, and that nobody else learns from the answers who exists: packets are compared byte by byte."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backends.errors import Unavailable
from gateway.store import sent_shares, users

from ..dav.served import CHEAP, PASSWORD
from .raw_client import (
    CHANNEL_OPEN,
    USERAUTH_FAILURE,
    USERAUTH_PK_OK,
    USERAUTH_SUCCESS,
    Ended,
    connected,
    string,
    u32,
)
from .served import SshServed, logged, make_key, wait_until

REFUSED = bytes((USERAUTH_FAILURE,)) + string("publickey") + b"\0"
REFUSED_BOTH = bytes((USERAUTH_FAILURE,)) + string("publickey,password") + b"\0"
MANY = {"logins": (100_000, 1.0), "repeats": (100_000, 1.0)}


class Strange(SshServed):
    """With a key that opens nothing."""

    def __init__(self, directory: Path, **options: Any) -> None:
        super().__init__(directory, **options)
        self.stranger = make_key(directory / "stranger")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Strange]:
    with Strange(tmp_path_factory.mktemp("ssh"), bounds=MANY) as served:
        (served.data / "shared").mkdir()
        served.store.run_sync(lambda tx: users.add(tx, "dora", "", 0))
        served.store.run_sync(lambda tx: users.set_disabled(tx, "dora", True))
        yield served


@pytest.fixture(scope="module")
def with_passwords(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServed]:
    with SshServed(tmp_path_factory.mktemp("passwords"), ssh={"passwords": True}, bounds=MANY) as served:
        (served.data / "shared").mkdir()
        yield served


def refusals(served: Strange) -> list[tuple[str, str | bytes, Path]]:
    """Return names and keys that do not belong together, or no longer."""
    live, ended = served.login("shared"), served.login("shared")
    served.end(ended)
    expired = served.login("shared", expiration=int(time.time()) - 1)
    of_disabled = served.login("shared", owner="dora")
    unknown = "s-" + "A" * 22
    return [
        ("unknown user", "nobody", served.user),
        ("wrong key", "alice", served.stranger),
        ("a Share's key for a user", "alice", served.guest),
        ("a user's key for a Share", live, served.user),
        ("strange key for a Share", live, served.stranger),
        ("unknown Share", unknown, served.guest),
        ("revoked Share", ended, served.guest),
        ("expired Share", expired, served.guest),
        ("a disabled owner's Share", of_disabled, served.guest),
        ("disabled user", "dora", served.user),
        ("in capitals", "ALICE", served.user),
        ("with a wide letter", "\uff41lice", served.guest),
        ("a path", "../alice", served.user),
        ("cut", live[:-1], served.guest),
        ("longer", live + "A", served.guest),
        ("empty", "", served.user),
        ("long", "a" * 1000, served.user),
    ]


def test_every_refusal_is_answered_alike(served: Strange, log: list[Any]) -> None:
    """Neither methods nor texts nor the number of answers tell whether there is such a name, or had been."""
    for what, name, key in refusals(served):
        with connected(served.ssh_port) as client:
            client.begin()
            answers = [
                client.ask(name, "none"),
                client.offer(name, key),
                client.prove(name, key),
                client.ask(name, "x"),
            ]
            assert answers == [REFUSED] * 4, what
    reasons = {line["reason"] for line in log if line["event"] == "ssh.login.refused"}
    assert len(reasons) > 4, reasons  # the operator is told more


@pytest.mark.parametrize(
    "name", [b"\xff\xfe", b"a" * 1024, b"a\0b", b"\xed\xa0\x80"], ids=["bytes", "long", "NUL", "half"]
)
def test_a_name_that_is_no_text_ends_the_connection(served: SshServed, name: bytes) -> None:
    with connected(served.ssh_port) as client:
        client.begin()
        with pytest.raises(Ended) as ended:
            client.ask(name, "none")
    assert ended.value.reason
    assert served.sftp("ls\n").returncode == 0


@pytest.mark.parametrize("name", ["alice", "nobody"])
@pytest.mark.parametrize(
    ("method", "rest"),
    [
        ("none", b""),
        ("password", b"\0" + string(PASSWORD)),
        ("password", b"\1" + string(PASSWORD) + string("another one")),
        ("keyboard-interactive", string("") + string("")),
        ("hostbased", string("ssh-ed25519") + string(b"") + string("localhost") + string("root") + string(b"")),
        ("gssapi-with-mic", u32(1) + string(b"\x06\x09\x2a\x86\x48\x86\xf7\x12\x01\x02\x02")),
        ("gssapi-keyex", string(b"")),
    ],
    ids=["none", "password", "change", "keyboard", "host", "gssapi", "keyex"],
)
def test_no_other_method_is_there(served: SshServed, name: str, method: str, rest: bytes) -> None:
    with connected(served.ssh_port) as client:
        client.begin()
        assert client.ask(name, method, rest) == REFUSED


def test_a_certificate_is_no_key(served: SshServed) -> None:
    body = string("ssh-ed25519-cert-v01@openssh.com") + string(os.urandom(32)) + string(bytes(32)) + bytes(100)
    with connected(served.ssh_port) as client:
        client.begin()
        rest = b"\0" + string("ssh-ed25519-cert-v01@openssh.com") + string(body)
        assert client.ask("alice", "publickey", rest) == REFUSED


def test_a_key_alone_proves_nothing(served: SshServed) -> None:
    """Public keys are public: only a signature over this very session opens anything."""
    with connected(served.ssh_port) as client:
        client.begin()
        assert client.offer("alice", served.user)[0] == USERAUTH_PK_OK
        session, client.session = client.session, bytes(32)
        assert client.prove("alice", served.user) == REFUSED
        client.session = session
        assert client.prove("alice", served.user)[0] == USERAUTH_SUCCESS


def test_a_share_is_used_once_its_key_is_proved_and_not_when_it_is_asked_about(served: SshServed) -> None:
    """Whoever knows the log-in and the public key, such as its owner, does not show as its recipient."""
    login = served.login("shared")

    def used() -> int | None:
        share = served.store.read_sync(lambda tx: sent_shares.get(tx, served.shares[login].id))
        assert share is not None
        return share.used

    with connected(served.ssh_port) as client:
        client.begin()
        assert client.offer(login, served.guest)[0] == USERAUTH_PK_OK
        session, client.session = client.session, bytes(32)
        assert client.prove(login, served.guest) == REFUSED
        client.session = session
        assert used() is None
        assert client.prove(login, served.guest)[0] == USERAUTH_SUCCESS
        client.sftp()
    wait_until(used)


def test_nothing_is_opened_before_the_log_in(served: SshServed) -> None:
    with connected(served.ssh_port) as client:
        client.begin()
        assert client.offer("alice", served.user)[0] == USERAUTH_PK_OK
        client.send(bytes((CHANNEL_OPEN,)) + string("session") + u32(0) + u32(1 << 20) + u32(32768))
        client.wait_for_end()


@pytest.mark.parametrize("first", ["offer", "proof"])
def test_whoever_is_asked_about_is_not_who_comes_in(served: SshServed, log: list[Any], first: str) -> None:
    """A key that is only offered, also in the same breath, gives nothing to the log-in that another key proves."""
    login, came_in = served.login("shared"), 0
    for _ in range(10):
        with connected(served.ssh_port) as client:
            client.begin()
            asked = [client.offering("alice", served.user), client.proving(login, served.guest)]
            for payload in asked if first == "offer" else asked[::-1]:
                client.send(payload)
            came_in += client.answer()[0] == USERAUTH_SUCCESS or client.answer()[0] == USERAUTH_SUCCESS
    wait_until(lambda: len(logged(log, "ssh.login")) >= came_in)
    assert {line["principal"] for line in logged(log, "ssh.login")} <= {f"share:{served.shares[login].id}"}
    assert came_in or first == "proof"  # a request that follows another ends that (RFC 4252 section 5.1)


# --- passwords ------------------------------------------------------------------------------------------------------


def test_passwords_are_taken_where_they_are_switched_on(with_passwords: SshServed, log: list[Any]) -> None:
    with connected(with_passwords.ssh_port) as client:
        client.begin()
        assert client.ask("alice", "none") == REFUSED_BOTH
        assert client.give_password("alice", PASSWORD)[0] == USERAUTH_SUCCESS
        client.sftp()
    assert logged(log, "ssh.login") == [{"principal": "user:alice", "key": "password", "remote": "127.0.0.1"}]


def test_a_session_ends_with_the_password_that_it_began_with(with_passwords: SshServed, log: list[Any]) -> None:
    """Of everybody who knew the old one; and of nobody else."""

    def set_password(password: str) -> None:
        hashed = CHEAP.hash(password)
        with_passwords.store.run_sync(lambda tx: users.set_password_hash(tx, "alice", hashed))

    with connected(with_passwords.ssh_port) as by_key, connected(with_passwords.ssh_port) as client:
        by_key.log_in("alice", with_passwords.user).sftp()
        client.begin()
        assert client.give_password("alice", PASSWORD)[0] == USERAUTH_SUCCESS
        client.sftp()
        set_password("another one")
        changed = time.monotonic()
        assert client.wait_for_end() == "Your access has ended"
        assert time.monotonic() - changed < 5
        by_key.sftp()
    set_password(PASSWORD)
    with connected(with_passwords.ssh_port) as client:
        client.begin()
        assert client.give_password("alice", PASSWORD)[0] == USERAUTH_SUCCESS


def test_wrong_passwords_are_answered_alike(with_passwords: SshServed) -> None:
    login = with_passwords.login("shared")
    tries = [("alice", "wrong"), ("alice", ""), ("nobody", PASSWORD), ("", ""), ("", PASSWORD), (login, PASSWORD)]
    tries += [(login, ""), (login, login), ("alice", "x" * 20_000), ("ALICE", PASSWORD)]
    for name, password in tries:
        with connected(with_passwords.ssh_port) as client:
            client.begin()
            assert client.give_password(name, password) == REFUSED_BOTH, (name, password[:20])


def test_a_password_is_not_changed_at_a_log_in(with_passwords: SshServed) -> None:
    with connected(with_passwords.ssh_port) as client:
        client.begin()
        changed = client.ask("alice", "password", b"\1" + string(PASSWORD) + string("another one"))
        assert changed == REFUSED_BOTH
        assert client.give_password("alice", PASSWORD)[0] == USERAUTH_SUCCESS


def test_a_password_that_is_no_text_ends_the_connection(with_passwords: SshServed) -> None:
    with connected(with_passwords.ssh_port) as client:
        client.begin()
        with pytest.raises(Ended):
            client.give_password("alice", b"\xff\xfe")


def test_guesses_are_not_even_checked_after_a_few(tmp_path: Path) -> None:
    bounds = {"logins": (4, 0.001), "repeats": (2, 0.001)}
    with SshServed(tmp_path, ssh={"passwords": True}, bounds=bounds) as served:
        with connected(served.ssh_port) as client:
            client.begin()
            for number in range(4):
                assert client.give_password("alice", f"guess {number}") == REFUSED_BOTH
            assert client.give_password("alice", PASSWORD) == REFUSED_BOTH  # right, and nobody looks
        with connected(served.ssh_port) as client:
            assert client.wait_for_end().startswith("Too many log-ins from your address have failed; try again in ")


def test_a_state_that_does_not_answer_is_no_wrong_key(
    served: SshServed, log: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unavailable(*_: object) -> None:
        raise Unavailable("the disk is gone")

    monkeypatch.setattr(served.access, "by_key", unavailable)
    with connected(served.ssh_port) as client:
        client.begin()
        with pytest.raises(Ended, match="It cannot be checked now who you are; try again later"):
            client.prove("alice", served.user)
    assert logged(log, "ssh.login.refused")[0]["reason"] == "the disk is gone"
