"""Updates over SFTP: what they cost, and that neither another program nor a lost connection makes a mixture of them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from faults.disks import MIB, tmpfs
from faulty_link import FaultyLink
from sftp_servers import Server, crash, soon, sshd
from sites import children

from backends.errors import OutOfSpace, PreconditionFailed, Unavailable
from backends.interface import Writer
from backends.sftp import SFTPBackend, writing
from backends.sftp.answers import Answer
from backends.sftp.session import COPY_DATA, Session
from backends.sftp_packets import Type

from .conformance.actions import get, names, path, put

CONTENT = os.urandom(3 * MIB + 17)
CHANGED = CONTENT[:MIB] + b"new" + CONTENT[MIB + 3 :]


@pytest.fixture
def remote(ssh_server: Server, ssh_root: Path, link: FaultyLink) -> Iterator[SFTPBackend]:
    """A file of a minute ago on the server, behind the link, by one connection."""
    (ssh_root / "file").write_bytes(CONTENT)
    os.utime(ssh_root / "file", (time.time() - 60,) * 2)
    account = replace(ssh_server.account(link.port), patience=2.0, beginning=5)
    with closing(ssh_server.backend(ssh_root, account, connections=1)) as backend:
        yield backend


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server copies nothing by itself."""
    offers = Session.offers
    monkeypatch.setattr(Session, "offers", lambda self, extension: extension != COPY_DATA and offers(self, extension))


def test_the_server_copies_what_is_not_overwritten(
    remote: SFTPBackend, link: FaultyLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No byte of it comes here, however far away the server is."""
    copied: list[tuple[int, int]] = []
    ask = Session.ask

    def recording(session: Session, what: str, kind: int, *fields: bytes) -> Answer:
        if kind == Type.EXTENDED and COPY_DATA in fields[0]:
            offset, size = (int.from_bytes(field, "big") for field in fields[2:4])
            copied.append((offset, offset + size))
        return ask(session, what, kind, *fields)

    monkeypatch.setattr(Session, "ask", recording)
    monkeypatch.setattr(writing, "COPY_PIECE", 2 * MIB)
    with remote.open_update(path("file")) as writer:
        for offset in range(0, len(CONTENT), MIB):
            writer.write_at(offset, CONTENT[offset : offset + MIB])
        writer.commit()
    assert copied == []
    with remote.open_update(path("file")) as writer:
        writer.write_at(MIB, b"new")
        writer.commit()
    assert copied == [(0, MIB), (MIB + 3, 3 * MIB + 3), (3 * MIB + 3, len(CONTENT))]
    assert get(remote, "file") == CHANGED


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize("more", [1, 3])
def test_what_no_server_copies_is_read_and_written(remote: SFTPBackend, more: int) -> None:
    """Also where the server gives less than it is asked for."""
    with remote.open_update(path("file")) as writer:
        writer._session.read_size *= more
        writer.write_at(MIB, b"new")
        assert writer.read_at(MIB - 1, 2 * MIB) == CHANGED[MIB - 1 : 3 * MIB - 1]
        writer.commit()
    assert get(remote, "file") == CHANGED


def test_small_pieces_in_order_go_together(remote: SFTPBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever they begin: 96 pieces of 32 KiB are 13 requests, as if they had been appended."""
    sent: list[int] = []
    send = writing.SFTPWriter._send

    def recording(writer: writing.SFTPWriter, data: bytes) -> None:
        sent.append(len(data))
        send(writer, data)

    monkeypatch.setattr(writing.SFTPWriter, "_send", recording)
    with remote.open_update(path("file")) as writer:
        for offset in range(0, 3 * MIB, 32_768):
            writer.write_at(offset, b"x" * 32_768)
        writer.commit()
    assert (len(sent), sum(sent)) == (13, 3 * MIB)
    assert get(remote, "file") == b"x" * 3 * MIB + CONTENT[3 * MIB :]


@pytest.mark.parametrize("touched", [False, True], ids=["untouched", "touched"])
@pytest.mark.parametrize("copies", [True, False], ids=["copy-data", "plain"])
def test_a_change_by_another_program_is_not_lost(
    remote: SFTPBackend, ssh_root: Path, request: pytest.FixtureRequest, touched: bool, copies: bool
) -> None:
    """Of one kind and the other: in place, and so that the file is shorter than what was still to be copied."""
    if not copies:
        request.getfixturevalue("plain")
    for theirs in (b"y" * len(CONTENT), b"short"):
        with remote.open_update(path("file")) as writer:
            if touched:
                writer.write_at(MIB, b"new")
            (ssh_root / "file").write_bytes(theirs)
            with pytest.raises(PreconditionFailed):
                writer.commit()
        assert get(remote, "file") == theirs
        assert os.listdir(ssh_root) == ["file"]


@pytest.mark.parametrize("act", [lambda writer: writer.read_at(0, MIB), lambda writer: writer.write(b"more")])
def test_a_file_that_changes_while_it_is_taken_over_is_no_mixture(
    remote: SFTPBackend, ssh_root: Path, act: Callable[[Writer], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = Session.ask

    def slowly(session: Session, what: str, kind: int, *fields: bytes) -> Answer:
        answer = ask(session, what, kind, *fields)
        if kind == Type.EXTENDED and COPY_DATA in fields[0]:
            (ssh_root / "file").write_bytes(b"x" * len(CONTENT))
        return answer

    monkeypatch.setattr(Session, "ask", slowly)
    with remote.open_update(path("file")) as writer, pytest.raises(PreconditionFailed, match="has changed"):
        act(writer)
    assert names(remote) == [b"file"]


@pytest.mark.parametrize("copies", [True, False], ids=["copy-data", "plain"])
def test_a_lost_connection_leaves_the_old_content(
    remote: SFTPBackend, link: FaultyLink, ssh_root: Path, request: pytest.FixtureRequest, copies: bool
) -> None:
    """At every step, and no debris once another write has tidied up."""
    if not copies:
        request.getfixturevalue("plain")
    steps: list[Callable[[Writer], object]] = [
        lambda writer: writer.write_at(MIB, b"new"),
        lambda writer: writer.read_at(2 * MIB, 10),
        lambda writer: writer.truncate(3 * MIB),
        lambda writer: writer.prepare(),
        lambda writer: writer.commit(),
    ]
    for failing in range(len(steps)):
        with soon(lambda: remote.open_update(path("file"))) as writer:
            for number, step in enumerate(steps[: failing + 1]):
                if number == failing:
                    link.cut()
                    with pytest.raises(Unavailable):
                        step(writer)
                else:
                    step(writer)
        soon(lambda: remote.open_write(path("another"))).abort()
        assert os.listdir(ssh_root) == ["file"]
        assert (ssh_root / "file").read_bytes() == CONTENT


def test_a_full_disk_leaves_the_old_content(tmp_path: Path) -> None:
    with (
        sshd(tmp_path) as server,
        tmpfs(server.data / "disk", 4 * MIB) as disk,
        closing(server.backend(disk)) as backend,
    ):
        put(backend, "file", CONTENT)
        for change in (
            lambda writer: writer.write(b"x") or writer.commit(),
            lambda writer: writer.write_at(0, CONTENT[::-1]) or writer.commit(),
            lambda writer: writer.commit(),
        ):
            with backend.open_update(path("file")) as writer, pytest.raises(OutOfSpace, match="no space left"):
                change(writer)
            assert (os.listdir(disk), get(backend, "file")) == (["file"], CONTENT)


def test_no_handle_is_left_open_on_the_server(ssh_server: Server, ssh_root: Path) -> None:
    with closing(ssh_server.backend(ssh_root, connections=1)) as backend:
        put(backend, "file", CONTENT)
        before = open_files(ssh_server, ssh_root)
        assert before == 0
        writer = backend.open_update(path("file"))
        assert open_files(ssh_server, ssh_root) == 2
        writer.abort()
        with backend.open_update(path("file")) as writer:
            writer.commit()
        backend.copy(path("file"), path("copy"), overwrite=False)
        with backend.open_update(path("file")) as writer:
            backend.remove(path("file"))
            with pytest.raises(PreconditionFailed):
                writer.commit()
        backend.stat(path("copy"))  # answered after all that was closed before
        assert open_files(ssh_server, ssh_root) == 0


def open_files(server: Server, root: Path) -> int:
    """Count what the server's processes have open below `root`."""
    assert server.process is not None
    below = [server.process.pid]
    for one in below:
        below += children(one)
    opened = [link for one in below for link in Path(f"/proc/{one}/fd").iterdir()]
    return sum(os.readlink(link).startswith(f"{root}/") for link in opened)


def test_through_a_link_an_update_is_no_more_open_than_what_it_shows(remote: SFTPBackend, ssh_root: Path) -> None:
    """As for a replacement: the link gives way to a file, and what it led to stays."""
    (ssh_root / "file").chmod(0o600)
    for name, change in (("link", lambda writer: writer.write_at(0, b"x")), ("other", lambda writer: None)):
        (ssh_root / name).symlink_to("file")
        with remote.open_update(path(name)) as writer:
            change(writer)
            before = remote.stat(path(name))
            assert [file.stat().st_mode & 0o077 for file in ssh_root.glob(".ocm-gateway-*")] == [0]
            entry = writer.commit()
        assert (entry.mode, entry.etag != before.etag) == (0o600, True)
        assert not (ssh_root / name).is_symlink()
    assert (ssh_root / "file").read_bytes() == get(remote, "other") == CONTENT


def test_a_process_that_is_killed_leaves_the_old_content(ssh_server: Server, ssh_root: Path) -> None:
    (ssh_root / "file").write_bytes(CONTENT)
    crash(ssh_server, ssh_root, "open_update", "file")
    assert len(os.listdir(ssh_root)) == 2
    with closing(ssh_server.backend(ssh_root)) as backend:
        assert backend.sweep() == 1
        assert (os.listdir(ssh_root), get(backend, "file")) == (["file"], CONTENT)
