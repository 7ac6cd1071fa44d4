"""What of a remote tree is visible, and what is done to it, where other programs have made links and temporaries."""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sftp_servers import SFTP_SERVER, Server, sshd

from backends.errors import (
    IncompleteWrite,
    InvalidPath,
    NotFound,
    PermissionDenied,
    PreconditionFailed,
    Unavailable,
    Unsupported,
)
from backends.interface import Reader, StorageBackend
from backends.paths import StoragePath
from backends.sftp import SFTPBackend

from .conformance.actions import ROOT, get, make, names, path, put

DAY = 24 * 3600


@pytest.fixture(scope="module")
def whole(ssh_server: Server) -> Iterator[Callable[[Path], SFTPBackend]]:
    """Give backends on directories of the server, which are closed in the end."""
    made: list[SFTPBackend] = []

    def backend(root: Path) -> SFTPBackend:
        made.append(ssh_server.backend(root, connections=2))
        return made[-1]

    yield backend
    for one in made:
        one.close()


@pytest.fixture
def remote(whole: Callable[[Path], SFTPBackend], ssh_root: Path) -> SFTPBackend:
    return whole(ssh_root)


@pytest.fixture
def outside(ssh_root: Path) -> Path:
    """A directory beside the root, with a secret in it."""
    directory = ssh_root.with_name(ssh_root.name + "-outside")
    directory.mkdir()
    (directory / "secret").write_bytes(b"secret")
    return directory


# --------------------------------------------------------------------------------------------------------- links


def is_absent(backend: StorageBackend, where: StoragePath) -> bool:
    """Tell whether neither a look nor a reader, a listing or a removal finds anything."""
    for call in (backend.stat, backend.open_read, backend.scan, backend.remove):
        with pytest.raises(NotFound):
            call(where)
    return True


@pytest.mark.parametrize("way", ["absolute", "relative", "through a directory", "a prefix of the name", "in two steps"])
def test_a_link_that_leads_out_does_not_exist(remote: SFTPBackend, ssh_root: Path, outside: Path, way: str) -> None:
    target = {
        "absolute": outside / "secret",
        "relative": Path("..") / outside.name / "secret",
        "through a directory": outside,
        "a prefix of the name": outside,  # its path begins with that of the root
        "in two steps": Path("second"),
    }[way]
    (ssh_root / "second").symlink_to(outside)
    (ssh_root / "link").symlink_to(target)
    assert is_absent(remote, path("link"))
    for below in ("link/secret", "link/deeper/secret"):
        assert is_absent(remote, path(below))
        with pytest.raises(NotFound):
            remote.open_write(path(below))
    assert names(remote) == []
    for write in (lambda: remote.open_write(path("link")), lambda: put(remote, "link", b"x")):
        with pytest.raises(PermissionDenied):
            write()
    put(remote, "file", b"x")
    with pytest.raises(PermissionDenied):
        remote.rename(path("file"), path("link"), overwrite=True)
    assert (outside / "secret").read_bytes() == b"secret"
    assert os.listdir(outside) == ["secret"]


@pytest.mark.parametrize("target", ["nowhere", "link", "fifo", "/dev/zero"])
def test_what_is_no_file_and_no_directory_does_not_exist(remote: SFTPBackend, ssh_root: Path, target: str) -> None:
    """Opening a FIFO would hold up the whole session."""
    os.mkfifo(ssh_root / "fifo")
    (ssh_root / "link").symlink_to(target)
    assert is_absent(remote, path("link"))
    assert is_absent(remote, path("fifo"))
    assert names(remote) == []
    with pytest.raises(PermissionDenied):
        put(remote, "fifo", b"x")


def test_a_link_within_the_root_is_read_through_and_changed_itself(remote: SFTPBackend, ssh_root: Path) -> None:
    make(remote, "folder")
    put(remote, "folder/file", b"content")
    (ssh_root / "link").symlink_to("folder/file")
    (ssh_root / "way").symlink_to(ssh_root / "folder")
    assert names(remote) == [b"folder", b"link", b"way"]
    assert (get(remote, "link"), get(remote, "way/file")) == (b"content", b"content")
    with remote.scan(ROOT) as scan:
        assert {entry.name: entry for entry in scan}[b"link"] == remote.stat(path("link"))
    put(remote, "way/other", b"written through")
    assert (ssh_root / "folder/other").read_bytes() == b"written through"
    put(remote, "link", b"in its place")
    assert not (ssh_root / "link").is_symlink()
    assert get(remote, "folder/file") == b"content"
    remote.rename(path("way"), path("road"), overwrite=False)
    with pytest.raises(Unsupported):
        remote.rename(path("road"), path("folder/road"), overwrite=False)
    remote.remove(path("road"))
    assert names(remote, "folder") == [b"file", b"other"]


def test_no_link_leads_out_of_the_bounds_of_a_path(remote: SFTPBackend, ssh_root: Path) -> None:
    """What a Share of a folder shows ends at the folder, though the root is larger."""
    make(remote, "shared", "private")
    put(remote, "private/secret", b"secret")
    put(remote, "shared/file", b"file")
    (ssh_root / "shared" / "out").symlink_to("../private")
    (ssh_root / "shared" / "in").symlink_to("file")
    share = path("shared").bounded()
    assert get(remote, "shared/out/secret") == b"secret"
    for below in ("out", "out/secret"):
        assert is_absent(remote, share.join(path(below).parts))
    with remote.scan(share) as scan:
        assert sorted(entry.name for entry in scan) == [b"file", b"in"]
    with pytest.raises(NotFound):
        remote.open_write(share.join((b"out", b"new")))


def test_a_directory_that_became_a_link_on_the_way_does_not_exist(remote: SFTPBackend, ssh_root: Path) -> None:
    make(remote, "tree", "tree/folder", "tree/other")
    put(remote, "tree/other/file", b"x")
    walked = path("tree/folder").walked_from(1)
    assert remote.stat(walked).is_directory
    (ssh_root / "tree" / "folder").rmdir()
    (ssh_root / "tree" / "folder").symlink_to("other")
    assert remote.stat(path("tree/folder")).is_directory
    with pytest.raises(NotFound):
        remote.stat(walked)
    with pytest.raises(NotFound):
        remote.remove(walked.child(b"file"))
    assert get(remote, "tree/other/file") == b"x"


# --------------------------------------------------------------------------------------------------- temporaries


def test_our_temporaries_can_neither_be_seen_nor_named(remote: SFTPBackend, ssh_root: Path) -> None:
    (ssh_root / ".ocm-gateway-anything").write_bytes(b"x")
    (ssh_root / (".ocm-gateway-" + "0" * 32)).mkdir()
    assert names(remote) == []
    for name in (".ocm-gateway-anything", ".ocm-gateway-" + "0" * 32, ".ocm-gateway-" + "0" * 32 + "/below"):
        assert is_absent(remote, path(name))
    put(remote, "file", b"x")
    for change in (
        lambda: put(remote, ".ocm-gateway-new", b"x"),
        lambda: remote.make_directory(path(".ocm-gateway-new")),
        lambda: remote.rename(path("file"), path(".ocm-gateway-new"), overwrite=True),
    ):
        with pytest.raises(PermissionDenied, match="reserved"):
            change()


def test_a_listing_sweeps_what_nobody_has_written_for_a_day(remote: SFTPBackend, ssh_root: Path) -> None:
    """And nothing that only looks like it, nor what is written here and now, however slowly."""
    old, new, other = (ssh_root / f".ocm-gateway-{name}" for name in ("0" * 32, "1" * 32, "old-0123456789abcdef"))
    for file in (old, new, other):
        file.write_bytes(b"x")
    slow = remote.open_write(path("slow"))
    for file in set(ssh_root.iterdir()) - {new}:
        os.utime(file, (time.time() - DAY - 60,) * 2)
    assert names(remote) == []
    assert (old.exists(), new.exists(), other.exists()) == (False, True, True)
    slow.commit()
    assert names(remote) == [b"slow"]


def test_a_directory_that_holds_only_what_the_dead_have_left_is_empty(remote: SFTPBackend, ssh_root: Path) -> None:
    make(remote, "folder")
    (left := ssh_root / "folder" / f".ocm-gateway-{'0' * 32}").write_bytes(b"x")
    os.utime(left, (time.time() - DAY - 60,) * 2)
    remote.remove(path("folder"))
    assert os.listdir(ssh_root) == []


def test_a_directory_that_is_renamed_takes_a_writer_s_temporary_along(remote: SFTPBackend, ssh_root: Path) -> None:
    """The write fails, as its directory is gone, and leaves nothing where that is now."""
    make(remote, "folder")
    with remote.open_write(path("folder/file")) as writer:
        writer.write(b"x")
        remote.rename(path("folder"), path("moved"), overwrite=False)
        with pytest.raises(NotFound):
            writer.commit()
    assert os.listdir(ssh_root / "moved") == []


# --------------------------------------------------------------------------------------------- content and etags


def append(file: Path, data: bytes) -> None:
    with file.open("ab") as opened:
        opened.write(data)


def read_on(reader: Reader, offset: int) -> None:
    while data := reader.read_at(offset, 100_000):
        offset += len(data)


def test_a_file_that_is_changed_in_place_is_no_mixture(remote: SFTPBackend, ssh_root: Path) -> None:
    """One that is replaced is read to its end; one that another program writes to is an error."""
    content = os.urandom(3_000_000)
    file = ssh_root / "file"
    for change in (
        lambda: file.write_bytes(b"x" * len(content)),
        lambda: os.truncate(file, 10),
        lambda: append(file, b"more"),
    ):
        file.write_bytes(content)
        os.utime(file, (time.time() - 60,) * 2)
        with remote.open_read(path("file")) as reader:
            assert reader.read_at(0, 1000) == content[:1000]
            change()
            with pytest.raises(Unavailable, match="changed while it was read"):
                read_on(reader, 1000)


def test_readers_that_jump_get_what_is_there(remote: SFTPBackend, ssh_root: Path) -> None:
    """In steps of any size, straight on, back, over gaps, and on where a jump has led."""
    content = os.urandom(2_000_000)
    (ssh_root / "file").write_bytes(content)
    with remote.open_read(path("file")) as reader:
        for offset, size in [
            *((offset, 70_001) for offset in range(0, 1_000_000, 70_001)),
            *((0, 10), (10, 300_000), (5, 10), (1_999_990, 100), (1_000_000, 600_000), (1_600_000, 400_000)),
            *((offset, 10) for offset in range(1_000_000, 900_000, -7_777)),
        ]:
            assert reader.read_at(offset, size) == content[offset : offset + size]


@pytest.mark.parametrize("way", ["replaced", "renamed over", "removed and made", "moved away and made"])
def test_another_content_of_the_same_size_and_second_has_another_etag(
    remote: SFTPBackend, ssh_root: Path, way: str
) -> None:
    """Over SFTP a time has no fractions, so the gateway's contents of one name are at least a second apart."""
    put(remote, "other", b"three")
    first = put(remote, "file", b"seven")
    os.utime(ssh_root / "other", (first.modified // 10**9,) * 2)
    if way == "renamed over":
        remote.rename(path("other"), path("file"), overwrite=True)
    elif way == "removed and made":
        remote.remove(path("file"))
    elif way == "moved away and made":
        remote.rename(path("file"), path("away"), overwrite=False)
    if way != "renamed over":
        put(remote, "file", b"three")
    entry = remote.stat(path("file"))
    assert (entry.size, get(remote, "file")) == (first.size, b"three")
    assert entry.etag != first.etag
    with pytest.raises(PreconditionFailed):
        put(remote, "file", b"lost", if_match=first.etag)


def test_times_from_far_in_the_future_are_not_taken_up(remote: SFTPBackend, ssh_root: Path) -> None:
    """What replaces such a file is of now: it cannot be mistaken for it."""
    old = put(remote, "file", b"1")
    os.utime(ssh_root / "file", (time.time() + 365 * DAY,) * 2)
    new = put(remote, "file", b"2")
    assert new.modified < old.modified + 3600 * 10**9


def test_a_file_keeps_its_permissions_when_it_is_replaced(remote: SFTPBackend, ssh_root: Path) -> None:
    """And is never readable by more than those; a new one gets what the server gives."""
    (ssh_root / "file").write_bytes(b"old")
    (ssh_root / "file").chmod(0o4640)
    with remote.open_write(path("file")) as writer:
        writer.write(b"new")
        hidden = next(one for one in ssh_root.iterdir() if one.name.startswith(".ocm-gateway-"))
        assert stat.S_IMODE(hidden.stat().st_mode) == 0o600
        writer.commit()
    assert remote.stat(path("file")).mode == 0o640
    put(remote, "new", b"")
    (ssh_root / "usual").touch()
    assert (ssh_root / "new").stat().st_mode == (ssh_root / "usual").stat().st_mode


def test_a_name_is_never_missing_while_it_is_replaced(remote: SFTPBackend, ssh_root: Path) -> None:
    """Seen by another program on the server, which looks all the time."""
    put(remote, "file", b"0")
    missing, done = [], threading.Event()

    def look() -> None:
        while not done.is_set():
            if not (ssh_root / "file").exists():
                missing.append(time.monotonic())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        for number in range(40):
            put(remote, "file", b"%d" % number)
    finally:
        done.set()
        thread.join()
    assert missing == []


def test_what_is_not_whole_on_the_server_gets_no_name(remote: SFTPBackend, ssh_root: Path) -> None:
    """Whatever its statuses have said: here another program cuts the temporary short."""
    put(remote, "file", b"old")
    with remote.open_write(path("file")) as writer:
        writer.write(b"x" * 600_000)
        writer.prepare()
        hidden = next(one for one in ssh_root.iterdir() if one.name.startswith(".ocm-gateway-"))
        os.truncate(hidden, 5)
        with pytest.raises(IncompleteWrite, match="5 of 600000 bytes"):
            writer.commit()
    assert (os.listdir(ssh_root), get(remote, "file")) == (["file"], b"old")


def test_many_names_arrive_as_they_come(remote: SFTPBackend, ssh_root: Path) -> None:
    """A directory is more than the server sends at once, and is given up in the middle without harm."""
    for number in range(1234):
        (ssh_root / f"{number}").touch()
    assert len(names(remote)) == 1234
    with remote.scan(ROOT, batch=10) as scan:
        assert len(scan.next()) == 10
    assert remote.stat(path("1233")).size == 0


def test_names_that_cannot_be_held_are_refused(remote: SFTPBackend) -> None:
    """Together with the root a path may be longer than the server's kernel takes: 4,096 bytes."""
    here = ROOT
    for _ in range(19):
        here = here.child(b"n" * 200)
        remote.make_directory(here)
    too_long = here.child(b"n" * 250)
    for call in (remote.stat, remote.open_read, remote.open_write, remote.make_directory, remote.remove):
        with pytest.raises(InvalidPath):
            call(too_long)


def test_a_server_that_lets_nothing_be_written_says_so(tmp_path: Path) -> None:
    with sshd(tmp_path, f"{SFTP_SERVER} -R") as server, closing(server.backend(server.data)) as backend:
        (server.data / "file").write_bytes(b"old")
        (server.data / "folder").mkdir()
        assert get(backend, "file") == b"old"
        for change in (
            lambda: put(backend, "file", b"new"),
            lambda: backend.make_directory(path("new")),
            lambda: backend.remove(path("file")),
            lambda: backend.remove(path("folder")),
            lambda: backend.rename(path("file"), path("new"), overwrite=False),
        ):
            with pytest.raises(PermissionDenied):
                change()
        assert sorted(os.listdir(server.data)) == ["file", "folder"]
