"""A Share is revoked or expires, a user's key is removed: nothing new within a second, and nothing open after five."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import paramiko
import pytest

from gateway.store import sent_shares, user_keys
from gateway.store.user_keys import UserKey

from ..dav.served import READ, WRITE
from .clients import paramiko_sftp, running, until
from .served import SshServed, public_key

AT_ONCE, SOON = 1.0, 5.0  # seconds: for new requests, for what is open
SLACK = 2.0  # seconds more that a busy machine may take to answer
SIZE = 200 << 20  # bytes
ARRIVED = 1 << 20  # bytes; when so many are there, access ends
SLOWLY = "20000"  # kbit/s that a client is told to transfer at most: it would take 80 s, and is cut after a few

# What the clients are told, or that the connection was closed under them
GONE = (PermissionError, EOFError, OSError, paramiko.SSHException)


class Access:
    """A log-in, and how it ends."""

    def __init__(self, served: SshServed, folder: Path, how: str) -> None:
        self.login, self.below = "alice", f"home/{folder.name}/"
        self.end: Callable[[], object] = partial(self._remove_key, served)
        if how != "key removed":
            self.login, self.below = served.login(folder.name, WRITE), ""
            self.end = partial(expire, served, self.login) if how == "expired" else partial(served.end, self.login)

    def _remove_key(self, served: SshServed) -> None:
        served.store.run_sync(
            lambda tx: user_keys.remove(tx, user="alice", fingerprint=public_key(served.user).fingerprint)
        )


def expire(served: SshServed, login: str) -> None:
    """Have a Share expire soon, and wait for that."""
    expiration = int(time.time()) + 2
    served.change(served.shares[login], lambda tx, share_id: sent_shares.set_expiration(tx, share_id, expiration, 1))
    time.sleep(max(0, expiration - time.time()))


@pytest.fixture(params=["revoked", "expired", "key removed"])
def access(request: pytest.FixtureRequest, served: SshServed, folder: Path, tmp_path: Path) -> Iterator[Access]:
    (folder / "old").write_bytes(b"old")
    with (folder / "big").open("wb") as file:
        file.truncate(SIZE)
    with (tmp_path / "up").open("wb") as file:
        file.truncate(SIZE)
    yield Access(served, folder, request.param)
    if request.param == "key removed":
        key = UserKey(public_key(served.user), "", 0)
        served.store.run_sync(lambda tx: user_keys.add(tx, user="alice", key=key))


def test_all_ends(served: SshServed, folder: Path, tmp_path: Path, access: Access) -> None:
    login, below = access.login, access.below
    get = running(served.sftp_command(login, "-l", SLOWLY), f"get {below}big {tmp_path}/down\n")
    put = running(served.sftp_command(login, "-l", SLOWLY), f"put {tmp_path}/up {below}new\n")
    replace = running(served.scp_command("-O", "-l", SLOWLY, f"{tmp_path}/up", f"{login}:{below}old"))
    with get as getting, put as putting, replace as replacing, paramiko_sftp(served, login) as client:
        writing = client.open(f"{below}written", "w")
        writing.write(b"content")
        writing.flush()
        until(lambda: os.path.exists(tmp_path / "down") and (tmp_path / "down").stat().st_size >= ARRIVED)
        until(lambda: sum(writer.written >= ARRIVED for writer in served.writers) == 2)
        client.listdir(below)
        assert not [one for one in (getting, putting, replacing) if one.poll() is not None]
        access.end()
        ended = time.monotonic()
        until(lambda: is_refused(lambda: client.listdir(below)), AT_ONCE + SLACK)
        assert is_refused(lambda: client._request(paramiko.sftp.CMD_CLOSE, writing.handle)), "nothing is committed"
        left = SOON + SLACK - (time.monotonic() - ended)
        until(lambda: None not in [one.poll() for one in (getting, putting, replacing)], left)
        assert 0 not in [one.returncode for one in (getting, putting, replacing)]
        assert is_refused(lambda: enter(served, login)), "and nobody comes in"
    until(lambda: not served.writers)
    assert {path.name for path in folder.iterdir()} == {"old", "big"}, "what was left of uploads is gone as well"
    assert (folder / "old").read_bytes() == b"old"
    assert (tmp_path / "down").stat().st_size < SIZE


def enter(served: SshServed, login: str) -> None:
    with paramiko_sftp(served, login) as client:
        client.listdir()


def is_refused(work: Callable[[], object]) -> bool:
    try:
        work()
    except GONE:
        return True
    return False


def test_who_may_no_longer_write_still_reads(served: SshServed, tmp_path: Path) -> None:
    """Permissions that shrink in the middle of an upload: it is refused, and the session goes on."""
    (served.data / "shrinking").mkdir()
    (served.data / "shrinking/old").write_bytes(b"old")
    login = served.login("shrinking", WRITE)
    with paramiko_sftp(served, login) as client:
        writing = client.open("old", "w")
        writing.set_pipelined(False)
        writing.write(b"new")
        served.change(served.shares[login], lambda tx, share_id: sent_shares.set_permissions(tx, share_id, READ, 1))
        until(lambda: is_refused(lambda: client.mkdir("made") or client.rmdir("made")), AT_ONCE + SLACK)
        with pytest.raises(PermissionError, match="read-only"):
            client._request(paramiko.sftp.CMD_WRITE, writing.handle, paramiko.sftp.int64(3), b"more")
        with pytest.raises(PermissionError, match="read-only"):
            client._request(paramiko.sftp.CMD_CLOSE, writing.handle)
        assert client.open("old").read() == b"old"
