"""A gateway of several processes: they share the SSH port, and one that dies takes nobody else's sessions with it."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import paramiko
import pytest
from sites import Site, eventually
from spread import TRIES, worker_of, workers

from .served import make_key, public_key


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("workers"), workers=2, has_ssh=True)
    key = make_key(site.directory / "key")
    site.start()
    site.add_user("alice", "alice-password")
    assert site.cli("user", "key", "add", "alice", "--key-file", f"{key}.pub").returncode == 0
    yield site
    site.stop()


def session(stack: ExitStack, site: Site, worker: int, key: str = "key") -> paramiko.SFTPClient:
    """Log in at the worker with the pid `worker`."""
    port = site.ssh_port or 0
    for _ in range(TRIES):
        connection = socket.create_connection(("127.0.0.1", port), timeout=20)
        if worker_of(site, connection, port) == worker:
            break
        connection.close()
    transport = stack.enter_context(paramiko.Transport(connection))
    transport.connect(username="alice", pkey=paramiko.Ed25519Key.from_private_key_file(str(site.directory / key)))
    client = paramiko.SFTPClient.from_transport(transport)
    assert client is not None
    return client


def test_each_worker_serves_and_one_that_dies_takes_no_other_session_with_it(site: Site) -> None:
    (site.data / "file").write_bytes(b"content")
    with ExitStack() as stack:
        first, second = workers(site)
        one, other = session(stack, site, first), session(stack, site, second)
        for client in (one, other):
            with client.open("home/file") as file:
                assert file.read() == b"content"
        with one.open("home/new", "wb") as file:
            file.write(b"by one")
        with other.open("home/new") as file:
            assert file.read() == b"by one", "what one has committed the other shows"
        writing = one.open("home/lost", "wb")
        writing.write(b"x" * 100_000)
        os.kill(first, signal.SIGKILL)
        assert other.stat("home/new").st_size == 6
        with pytest.raises((OSError, EOFError, paramiko.SSHException)):
            one.stat("home/new")
        with suppress(OSError, EOFError, paramiko.SSHException):  # paramiko tells of a lost connection there at times
            writing.close()
        assert not (site.data / "lost").exists()
        eventually(lambda: len(workers(site)) == 2 and first not in workers(site), True)
        (new,) = set(workers(site)) - {second}
        assert "file" in session(stack, site, new).listdir("home")


def test_a_key_that_is_removed_opens_nothing_more_at_any_worker(site: Site) -> None:
    key = make_key(site.directory / "second")
    assert site.cli("user", "key", "add", "alice", "--key-file", f"{key}.pub").returncode == 0
    with ExitStack() as stack:
        sessions = [session(stack, site, pid, "second") for pid in workers(site)]
        assert all("home" in client.listdir(".") for client in sessions)
        assert site.cli("user", "key", "remove", "alice", public_key(key).fingerprint).returncode == 0
        for client in sessions:
            eventually(lambda client=client: refuses(client), True, 5)


def refuses(client: paramiko.SFTPClient) -> bool:
    try:
        client.listdir(".")
    except (OSError, EOFError, paramiko.SSHException):
        return True
    return False
