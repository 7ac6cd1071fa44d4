"""SFTP over links and disks that fail: what is acknowledged is there, all else leaves the old content and no debris."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from faults.disks import MIB, filled, tmpfs
from faulty_link import FaultyLink
from sftp_servers import PLAIN, Server, crash, soon, sshd

from backends.errors import IsADirectory, NotFound, OutOfSpace, Unavailable
from backends.sftp import SFTPBackend
from backends.sftp.writing import SFTPWriter

from .conformance.actions import ROOT, get, names, path, put

CONTENT = os.urandom(3 * MIB + 17)
PATIENCE = 2.0  # seconds


@pytest.fixture
def remote(ssh_server: Server, ssh_root: Path, link: FaultyLink) -> Iterator[SFTPBackend]:
    """The new directory behind the link, by one connection."""
    account = replace(ssh_server.account(link.port), patience=PATIENCE, beginning=5)
    with closing(ssh_server.backend(ssh_root, account, connections=1)) as backend:
        yield backend


def is_clean(backend: SFTPBackend, root: Path) -> bool:
    """Tell whether only `file` is left once another write has tidied up."""
    soon(lambda: backend.open_write(path("another"))).abort()
    return os.listdir(root) == ["file"]


def test_far_away_requests_overlap(remote: SFTPBackend, link: FaultyLink) -> None:
    """With 200 ms there and back, 49 pieces one after the other would take 10 s to read and as long to write."""
    remote.stat(ROOT)
    link.latency = 0.1
    content = CONTENT * 4
    begun = time.monotonic()
    put(remote, "file", content)
    written = time.monotonic()
    with remote.open_read(path("file")) as reader:
        found = b"".join(reader.read_at(offset, MIB) for offset in range(0, len(content), MIB))
    assert found == content
    assert max(written - begun, time.monotonic() - written) < 6


def test_a_stalled_read_ends_in_time_and_goes_on_later(remote: SFTPBackend, link: FaultyLink, ssh_root: Path) -> None:
    (ssh_root / "file").write_bytes(CONTENT)
    with remote.open_read(path("file")) as reader:
        assert reader.read_at(0, 1000) == CONTENT[:1000]
        link.stall()
        with pytest.raises(Unavailable, match="lab: sftp://"):
            reader.read_at(MIB, 1000)
        link.flow()
        assert soon(lambda: reader.read_at(MIB, MIB)) == CONTENT[MIB : 2 * MIB]


def write_much(writer: SFTPWriter) -> None:
    for _ in range(40):
        writer.write(CONTENT)


def test_a_stalled_write_is_not_acknowledged(remote: SFTPBackend, link: FaultyLink, ssh_root: Path) -> None:
    """Whether it stalls in the middle or before the commit; more is written than any buffer on the way takes."""
    put(remote, "file", b"old")
    for go_on in (write_much, SFTPWriter.commit):
        writer = soon(lambda: remote.open_write(path("file")))
        writer.write(CONTENT)
        link.stall()
        with pytest.raises(Unavailable):
            go_on(writer)
        link.flow()
        assert is_clean(remote, ssh_root)
        assert (ssh_root / "file").read_bytes() == b"old"


def test_a_connection_that_is_cut_in_a_packet_is_replaced_for_a_reader(
    remote: SFTPBackend, link: FaultyLink, ssh_root: Path
) -> None:
    (ssh_root / "file").write_bytes(CONTENT)
    with remote.open_read(path("file")) as reader:
        for size in (10, 100_000, 300_001):
            link.cut_after(size)
            assert reader.read_at(0, len(CONTENT)) == CONTENT
    assert link.accepted == 4


def test_looks_and_listings_survive_a_cut_too(remote: SFTPBackend, link: FaultyLink, ssh_root: Path) -> None:
    (ssh_root / "file").write_bytes(b"abc")
    for call in (lambda: remote.stat(path("file")).size, lambda: get(remote, "file"), lambda: names(remote)):
        expected = call()
        link.cut_after(30)
        assert call() == expected


def test_what_is_cut_twice_is_unavailable(remote: SFTPBackend, link: FaultyLink) -> None:
    remote.stat(ROOT)
    link.down()
    with pytest.raises(Unavailable, match="Connection refused"):
        remote.stat(ROOT)
    link.up()
    assert soon(lambda: remote.stat(ROOT)).is_directory


def test_a_file_that_changed_while_the_connection_was_lost_is_no_mixture(
    remote: SFTPBackend, link: FaultyLink, ssh_root: Path
) -> None:
    """Another file under the name, or none: the reader gets neither."""
    for change in (lambda file: file.write_bytes(b"other"), Path.unlink):
        (ssh_root / "file").write_bytes(CONTENT)
        with remote.open_read(path("file")) as reader:
            reader.read_at(0, 10)
            change(ssh_root / "file")
            link.cut()
            with pytest.raises((Unavailable, NotFound), match="file"):
                reader.read_at(MIB, 10)


@pytest.mark.parametrize("where", ["up", "down"])
def test_wherever_a_write_is_cut_the_truth_is_told(
    remote: SFTPBackend, link: FaultyLink, ssh_root: Path, where: str
) -> None:
    """Bytes later each time, from the first of the commit to its end: acknowledged is there, all else is whole."""
    put(remote, "file", b"old")
    outcomes = set()
    for size in range(1, 1800, 150):
        before, new = (ssh_root / "file").read_bytes(), b"new %d" % size
        acknowledged = False
        try:
            with soon(lambda: remote.open_write(path("file"))) as writer:
                writer.write(new)
                link.cut_after(size, up=where == "up")
                writer.commit()
                acknowledged = True
        except Unavailable:
            pass
        link.cut()
        present = (ssh_root / "file").read_bytes()
        assert present == new if acknowledged else present in (before, new)
        assert is_clean(remote, ssh_root)
        outcomes.add(acknowledged)
    assert outcomes == {False, True}


def test_a_server_may_be_restarted(tmp_path: Path) -> None:
    """An idle connection is replaced, an open read goes on, an upload that was under way fails and leaves nothing."""
    with sshd(tmp_path) as server, closing(server.backend(server.data, connections=2)) as backend:
        put(backend, "file", CONTENT)
        reader, writer = backend.open_read(path("file")), backend.open_write(path("file"))
        with reader, writer:
            reader.read_at(0, 10)
            writer.write(CONTENT[1:])
            server.stop()
            with pytest.raises(Unavailable):
                backend.stat(ROOT)
            server.start()
            assert soon(lambda: reader.read_at(MIB, 10)) == CONTENT[MIB : MIB + 10]
            with pytest.raises(Unavailable):
                writer.commit()
        assert is_clean(backend, server.data)
        assert get(backend, "file") == CONTENT


# --------------------------------------------------------------------------------------------------- full disks


@pytest.mark.parametrize("sftp_server", [None, PLAIN], ids=["extensions", "plain"])
def test_a_full_disk_loses_nothing_and_is_called_so(tmp_path: Path, sftp_server: str | None) -> None:
    """paramiko's own client calls such a write a success. A server without statvfs can only say that it failed."""
    error, sentence = (Unavailable, "could not do it") if sftp_server else (OutOfSpace, "no space left")
    arguments = (sftp_server,) if sftp_server else ()
    with (
        sshd(tmp_path, *arguments) as server,
        tmpfs(server.data / "disk", 4 * MIB) as disk,
        closing(server.backend(disk)) as backend,
    ):
        put(backend, "file", b"old")
        for is_full_before in (False, True):
            ballast = filled(disk) if is_full_before else None
            with pytest.raises(error, match=sentence):
                put(backend, "file", CONTENT * 2)
            if ballast is not None:
                ballast.unlink()
            assert (os.listdir(disk), get(backend, "file")) == (["file"], b"old")
        put(backend, "file", b"new")
        assert get(backend, "file") == b"new"


def test_what_cannot_fit_is_refused_at_once(tmp_path: Path) -> None:
    with (
        sshd(tmp_path) as server,
        tmpfs(server.data / "disk", MIB) as disk,
        closing(server.backend(disk)) as backend,
    ):
        with pytest.raises(OutOfSpace, match="announced"):
            backend.open_write(path("file"), size=2 * MIB)
        assert (os.listdir(disk), backend.space().total) == ([], MIB)


# ----------------------------------------------------------------------------------------------- crashes of ours


@pytest.mark.parametrize("sweep", ["at the start", "before the first write"])
def test_what_a_crash_leaves_is_hidden_and_swept(ssh_server: Server, ssh_root: Path, sweep: str) -> None:
    """A temporary of somebody who lives stays, though it is in the same directory and in the same journals."""
    (ssh_root / "folder").mkdir()
    with closing(ssh_server.backend(ssh_root)) as living, closing(ssh_server.backend(ssh_root)) as next_one:
        writer = living.open_write(path("folder/other"))
        crash(ssh_server, ssh_root, "open_write", "folder/file")
        assert len(os.listdir(ssh_root / "folder")) == 2
        assert names(next_one, "folder") == []
        if sweep == "at the start":
            assert next_one.sweep() == 1
        else:
            next_one.open_write(path("unrelated")).abort()
        assert len(os.listdir(ssh_root / "folder")) == 1
        writer.commit()
        assert os.listdir(ssh_root / "folder") == ["other"]


def test_a_sweep_waits_for_its_server(ssh_server: Server, ssh_root: Path, link: FaultyLink) -> None:
    """What could not be swept while it was away is swept later."""
    (ssh_root / "folder").mkdir()
    crash(ssh_server, ssh_root, "open_write", "folder/file")
    with closing(ssh_server.backend(ssh_root, ssh_server.account(link.port))) as backend:
        link.down()
        with pytest.raises(Unavailable):
            backend.sweep()
        link.up()
        assert soon(backend.sweep) == 1


def test_nothing_stays_noted_when_all_is_done(ssh_server: Server, ssh_root: Path, tmp_path: Path) -> None:
    """After a commit, an abort and a failure there is nothing for the next start to look for."""
    with closing(SFTPBackend(ssh_server.account(), str(ssh_root), tmp_path)) as backend:
        put(backend, "file", b"x")
        backend.open_write(path("file")).abort()
        with backend.open_write(path("name")) as writer:
            backend.make_directory(path("name"))
            with pytest.raises(IsADirectory):
                writer.commit()
        assert len(os.listdir(tmp_path)) == 1
    assert os.listdir(tmp_path) == []


# --------------------------------------------------------------------------------------------------- connections


def test_no_more_connections_are_made_than_allowed(ssh_server: Server, ssh_root: Path, link: FaultyLink) -> None:
    """Ten readers that are open at once, and as many threads, share two; none waits for another to close."""
    (ssh_root / "file").write_bytes(CONTENT)
    with closing(ssh_server.backend(ssh_root, ssh_server.account(link.port), connections=2)) as backend:
        readers = [backend.open_read(path("file")) for _ in range(10)]
        found: list[bytes] = []
        threads = [threading.Thread(target=lambda one=one: found.append(one.read_at(5, MIB))) for one in readers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [CONTENT[5 : MIB + 5]] * 10
        for reader in readers:
            reader.close()
        assert link.accepted == 2


def test_a_server_that_is_away_is_not_asked_again_at_once(ssh_server: Server, link: FaultyLink) -> None:
    """A wrong password in a hurry would lock the account, or the address, out."""
    account = ssh_server.account(link.port)
    assert account.key_file is not None
    account = replace(account, key_file=ssh_server.place / "host_key")
    with closing(ssh_server.backend(ssh_server.data, account)) as backend:
        for _ in range(20):
            with pytest.raises(Unavailable, match="does not accept the key"):
                backend.stat(ROOT)
    assert link.accepted < 5
