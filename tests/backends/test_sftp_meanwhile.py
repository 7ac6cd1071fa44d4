"""SFTP where something happens meanwhile: to a file that is read or copied, to a connection that is idle."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sftp_servers import Server, sshd
from sites import children

from backends.errors import Unavailable
from backends.sftp import SFTPBackend, writing
from backends.sftp.answers import Answer
from backends.sftp.session import Session
from backends.sftp_packets import Type

from .conformance.actions import ROOT, names, path

CONTENT = os.urandom(3_000_000)


@pytest.fixture
def remote(ssh_server: Server, ssh_root: Path) -> Iterator[SFTPBackend]:
    with closing(ssh_server.backend(ssh_root, connections=1)) as backend:
        (ssh_root / "file").write_bytes(CONTENT)
        os.utime(ssh_root / "file", (time.time() - 60,) * 2)
        yield backend


def test_a_file_that_has_changed_stays_unreadable_to_its_reader(remote: SFTPBackend, ssh_root: Path) -> None:
    """Who asks again gets the same answer, and none of what was already on its way."""
    with remote.open_read(path("file")) as reader:
        assert reader.read_at(0, 1000) == CONTENT[:1000]
        (ssh_root / "file").write_bytes(b"x" * len(CONTENT))
        for offset in (1000, 1000, 300_000, 1000, 2_000_000):
            with pytest.raises(Unavailable, match="changed while it was read"):
                reader.read_at(offset, 600_000)


def test_a_file_that_a_rename_dates_anew_is_read_on(remote: SFTPBackend, ssh_root: Path) -> None:
    """It would look like what had the name before; its content is the same."""
    when = (ssh_root / "file").stat().st_mtime
    for name in ("other", "third"):
        (ssh_root / name).write_bytes(b"x" * len(CONTENT))
        os.utime(ssh_root / name, (when, when + (name == "third")))
    with remote.open_read(path("file")) as reader:
        assert reader.read_at(0, 1000) == CONTENT[:1000]
        for old, new in (("file", "other"), ("other", "third")):
            remote.rename(path(old), path(new), overwrite=True)
        assert int((ssh_root / "third").stat().st_mtime) == int(when) + 2
        assert reader.read_at(1000, len(CONTENT)) == CONTENT[1000:]


def test_a_reader_may_ask_again_after_any_failure(remote: SFTPBackend, ssh_root: Path) -> None:
    with remote.open_read(path("file")) as reader:
        assert reader.read_at(0, 1000) == CONTENT[:1000]
        os.truncate(ssh_root / "file", 0)
        for _ in range(3):
            with pytest.raises(Unavailable, match="changed while it was read"):
                reader.read_at(1000, 600_000)
    (session,) = remote._connections._sessions
    remote.stat(ROOT)
    assert not session._unwanted


def test_a_file_that_changes_while_the_server_copies_it_is_not_copied(
    remote: SFTPBackend, ssh_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither version is in the copy: it is Unavailable, and leaves nothing."""
    monkeypatch.setattr(writing, "COPY_PIECE", 1_000_000)
    ask = Session.ask

    def slowly(session: Session, what: str, kind: int, *fields: bytes) -> Answer:
        answer = ask(session, what, kind, *fields)
        if kind == Type.EXTENDED and b"copy-data" in fields[0]:
            (ssh_root / "file").write_bytes(b"x" * len(CONTENT))
        return answer

    monkeypatch.setattr(Session, "ask", slowly)
    with pytest.raises(Unavailable, match="changed while it was copied"):
        remote.copy(path("file"), path("copy"), overwrite=False)
    assert names(remote) == [b"file"]


def test_a_connection_whose_channel_has_ended_is_closed(tmp_path: Path) -> None:
    """The server ends SFTP and keeps the connection, which nobody would use any more."""
    with sshd(tmp_path) as server, closing(server.backend(server.data, connections=1)) as backend:
        ended = []
        for _ in range(3):
            backend.stat(ROOT)
            (session,) = backend._connections._sessions
            ended.append(session)
            for process in programs(server):
                os.kill(process, signal.SIGKILL)
            deadline = time.monotonic() + 10
            while session.is_alive and time.monotonic() < deadline:
                time.sleep(0.01)
        backend.stat(ROOT)
        assert not any(session._channel.get_transport().is_active() for session in ended)


def programs(server: Server) -> list[int]:
    """Return the processes of sftp-server."""
    assert server.process is not None
    below = [server.process.pid]
    for one in below:
        below += children(one)
    return [one for one in below if b"sftp-server" in Path(f"/proc/{one}/cmdline").read_bytes().split(b"\0")[0]]
