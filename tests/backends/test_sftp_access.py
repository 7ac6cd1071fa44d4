"""Who answers and who asks: a server is believed by its key alone, and errors name what the operator has set."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from sftp_servers import PASSWORD, Server, by_password, known_hosts_line, make_key, rclone_sftp, soon, sshd
from sites import free_port

from backends.errors import StorageError, Unavailable
from backends.sftp import Account
from backends.sftp.connecting import PatientSocket

from .conformance.actions import ROOT, get, make, names, path, put


@pytest.fixture
def server(ssh_server: Server) -> Server:
    return ssh_server


@pytest.fixture(scope="module")
def rclone_server(rclone: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with rclone_sftp(rclone, tmp_path_factory.mktemp("rclone")) as started:
        yield started


def refusal(server: Server, account: Account, root: Path | None = None) -> str:
    """Return why nothing can be listed; it is the same for a write."""
    with closing(server.backend(root or server.data, account)) as backend:
        with pytest.raises(Unavailable) as caught:
            backend.scan(ROOT)
        with pytest.raises(Unavailable):
            backend.open_write(path("file"))
    assert account.name in str(caught.value)
    return str(caught.value)


def test_another_host_key_is_refused_before_anything_is_sent(server: Server, tmp_path: Path) -> None:
    """The error names the file and the key that was shown; the server sees no log-in."""
    known = tmp_path / "known_hosts"
    known.write_text(known_hosts_line(server.port, make_key(tmp_path / "other")))
    shown = subprocess.run(
        ["ssh-keygen", "-l", "-f", server.place / "host_key.pub"], capture_output=True, text=True, check=True
    ).stdout.split()[1]
    said = refusal(server, replace(server.account(), known_hosts_file=known))
    assert "REFUSED" in said
    assert str(known) in said
    assert shown in said


def test_a_revoked_host_key_is_refused(server: Server, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    line = known_hosts_line(server.port, server.place / "host_key")
    known.write_text(f"{line}@revoked {line}")
    assert "is revoked in" in refusal(server, replace(server.account(), known_hosts_file=known))


def test_an_unknown_host_is_refused_with_what_to_do(server: Server, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    known.write_text(known_hosts_line(server.port + 1, server.place / "host_key"))
    said = refusal(server, replace(server.account(), known_hosts_file=known))
    assert f"`ssh-keyscan -p {server.port} 127.0.0.1`" in said


def test_a_host_key_of_a_kind_that_the_server_has_not_is_refused(server: Server, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    known.write_text(known_hosts_line(server.port, make_key(tmp_path / "rsa", "rsa")))
    assert "nothing in common" in refusal(server, replace(server.account(), known_hosts_file=known))


def test_what_ssh_keyscan_prints_is_what_is_needed(server: Server, tmp_path: Path) -> None:
    """The way that the documentation names, hashed as some distributions have it."""
    known = tmp_path / "known_hosts"
    with known.open("wb") as file:
        command = ["ssh-keyscan", "-H", "-p", str(server.port), "127.0.0.1"]
        subprocess.run(command, stdout=file, stderr=subprocess.DEVNULL, check=True)
    with closing(server.backend(server.data, replace(server.account(), known_hosts_file=known))) as backend:
        assert backend.stat(ROOT).is_directory


def test_a_key_that_the_server_does_not_know_is_named(server: Server, tmp_path: Path) -> None:
    key = make_key(tmp_path / "stranger")
    said = refusal(server, replace(server.account(), key_file=key))
    assert f"does not accept the key in key_file {key}" in said


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it holds no private key"),
        (b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n", "it holds no private key"),
        (None, "No such file"),
    ],
)
def test_what_is_no_key_is_named(server: Server, tmp_path: Path, content: bytes | None, reason: str) -> None:
    file = tmp_path / "key"
    if content is not None:
        file.write_bytes(content)
    assert f"key_file {file}: {reason}" in refusal(server, replace(server.account(), key_file=file))


def test_a_key_with_a_pass_phrase_is_named(server: Server, tmp_path: Path) -> None:
    key = make_key(tmp_path / "key")
    subprocess.run(["ssh-keygen", "-q", "-p", "-N", "secret", "-f", key], check=True, capture_output=True)
    assert "it has a pass phrase" in refusal(server, replace(server.account(), key_file=key))


@pytest.mark.parametrize(("kind", "bits"), [("rsa", "2048"), ("ecdsa", "256")])
def test_every_usual_kind_of_key_logs_in(server: Server, tmp_path: Path, kind: str, bits: str) -> None:
    key = make_key(tmp_path / "key", kind)
    with (server.place / "authorized_keys").open("a") as file:
        file.write((tmp_path / "key.pub").read_text())
    with closing(server.backend(server.data, replace(server.account(), key_file=key))) as backend:
        assert backend.stat(ROOT).is_directory


def test_a_root_that_does_not_exist_is_named(server: Server) -> None:
    """By every operation, and not as a file that is missing."""
    root = server.data / "not there"
    assert f"the root {root} does not exist" in refusal(server, server.account(), root)
    with closing(server.backend(root)) as backend:
        for call in (backend.stat, backend.open_read, backend.make_directory, backend.remove):
            with pytest.raises(Unavailable, match="the root"):
                call(path("name"))
        with pytest.raises(Unavailable, match="the root"):
            backend.stat(ROOT)


def test_a_file_as_root_is_named(server: Server) -> None:
    root = server.data / "a file"
    root.write_bytes(b"")
    with closing(server.backend(root)) as backend, pytest.raises(Unavailable, match=r"the root .* is not a directory"):
        backend.stat(ROOT)


def test_a_root_may_begin_where_the_account_logs_in(server: Server) -> None:
    home = Path.home()
    with closing(server.backend(Path())) as backend:
        assert backend.stat(ROOT).is_directory
        assert set(names(backend)) <= {os.fsencode(one.name) for one in home.iterdir()}


def test_a_server_that_is_not_there_is_named(server: Server) -> None:
    account = replace(server.account(free_port()))
    assert f"{account.port}: Connection refused" in refusal(server, account)


def test_what_is_no_ssh_server_is_named(server: Server) -> None:
    """Such as one that says nothing: the time for beginning is bounded."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        account = replace(server.account(silent.getsockname()[1]), beginning=0.5)
        assert str(account) in refusal(server, account)


def test_a_peer_that_takes_nothing_is_given_up() -> None:
    """paramiko would try to send for ever: the socket that it is given counts the time without any progress."""
    near, far = socket.socketpair()
    with far, PatientSocket(near.family, near.type, near.proto, near.detach()) as link:
        link.patience = 0.3
        link.settimeout(0.05)
        for _ in range(2):
            with pytest.raises(ConnectionError, match="takes nothing"):
                send_for_ever(link)
            far.recv(1 << 20)


def send_for_ever(link: socket.socket) -> None:
    """Send as paramiko does, which takes a time-out for a reason to try again."""
    while True:
        with contextlib.suppress(TimeoutError):
            link.send(bytes(1 << 16))


def test_a_server_without_sftp_is_named(tmp_path: Path) -> None:
    with sshd(tmp_path, "/bin/false") as server:
        assert "lab: sftp://" in refusal(server, server.account())


# ---------------------------------------------------------------------------------- another server, and passwords


def test_a_password_logs_in_and_the_tree_is_changed(rclone_server: Server) -> None:
    """On rclone's server, which is another program altogether: write, replace, list, rename, read, remove."""
    with closing(rclone_server.backend(Path("/"), by_password(rclone_server))) as backend:
        make(backend, "folder")
        content = bytes(range(256)) * 5000
        assert put(backend, "folder/file", content) == backend.stat(path("folder/file"))
        put(backend, "folder/file", content[1:])
        backend.rename(path("folder"), path("moved"), overwrite=False)
        assert names(backend, "moved") == [b"file"]
        assert get(backend, "moved/file") == content[1:]
        assert (rclone_server.data / "moved" / "file").read_bytes() == content[1:]
        backend.remove(path("moved/file"))
        backend.remove(path("moved"))
        assert names(backend) == []


def test_a_wrong_password_is_refused_and_never_shown(rclone_server: Server) -> None:
    account = by_password(rclone_server, "hunter2")
    said = refusal(rclone_server, account)
    assert "does not accept the password in password_file" in said
    assert "hunter2" not in said.replace("password-hunter2", "")
    assert PASSWORD not in repr(by_password(rclone_server)).replace(f"password-{PASSWORD}", "")


def test_a_password_may_be_changed_while_the_gateway_runs(rclone_server: Server) -> None:
    account = by_password(rclone_server, "too late")
    with closing(rclone_server.backend(Path("/"), account)) as backend:
        with pytest.raises(StorageError):
            backend.stat(ROOT)
        assert account.password_file is not None
        account.password_file.write_text(PASSWORD)
        assert soon(lambda: backend.stat(ROOT)).is_directory


@pytest.mark.parametrize("content", [b"", b"\n", b"two\nlines\n", b"\xff\xfe", None])
def test_a_file_without_a_password_is_named_and_nobody_is_asked(
    rclone_server: Server, tmp_path: Path, content: bytes | None
) -> None:
    """Else the server would count it as a wrong guess."""
    file = tmp_path / "password"
    if content is not None:
        file.write_bytes(content)
    said = refusal(rclone_server, replace(by_password(rclone_server), password_file=file))
    reason = ": No such file or directory" if content is None else " does not hold one line of text"
    assert f"password_file: {file}{reason}" in said
    assert "two" not in said
