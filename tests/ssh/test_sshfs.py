"""A Share as a file system: sshfs by FUSE, with programs that know nothing of SFTP, and that change files in place."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..dav.served import READ, WRITE
from .clients import sshfs, until
from .served import SshServed

CONTENT = os.urandom(1_000_000)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServed]:
    with SshServed(tmp_path_factory.mktemp("ssh")) as served:
        (served.data / "shared/folder").mkdir(parents=True)
        (served.data / "shared/folder/file").write_bytes(CONTENT)
        yield served
        assert served.temporaries() == []


@pytest.fixture(scope="module")
def mounted(served: SshServed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The Share `shared`, to write."""
    where = tmp_path_factory.mktemp("sshfs") / "mounted"
    with sshfs(served, served.login("shared", WRITE), where) as mounted:
        yield mounted


def test_programs_list_read_write_and_move(served: SshServed, mounted: Path, tmp_path: Path) -> None:
    stored = served.data / "shared"
    assert {path.name for path in mounted.iterdir()} >= {"folder"}
    assert (mounted / "folder/file").read_bytes() == CONTENT
    (tmp_path / "tree/empty").mkdir(parents=True)
    (tmp_path / "tree/file").write_bytes(CONTENT)
    (tmp_path / "tree/nothing").touch()
    os.utime(tmp_path / "tree/file", (1_500_000_000, 1_500_000_000))
    subprocess.run(["cp", "-r", "--preserve=timestamps", tmp_path / "tree", mounted], check=True)
    until(lambda: served.writers == [])
    assert subprocess.run(["diff", "-r", tmp_path / "tree", stored / "tree"]).returncode == 0
    assert (stored / "tree/file").stat().st_mtime == 1_500_000_000
    os.rename(mounted / "tree/file", mounted / "folder/moved")
    os.replace(mounted / "folder/moved", mounted / "tree/nothing")
    assert (stored / "tree/nothing").read_bytes() == CONTENT
    shutil.rmtree(mounted / "tree")
    assert not (stored / "tree").exists()
    real, shown = os.statvfs(stored), os.statvfs(mounted)
    assert shown.f_blocks * shown.f_frsize == pytest.approx(real.f_blocks * real.f_frsize, rel=0.01)


def test_a_file_is_edited_in_place(served: SshServed, mounted: Path) -> None:
    stored, path = served.data / "shared/edited", mounted / "edited"
    expected = bytearray(CONTENT)
    stored.write_bytes(CONTENT)
    with path.open("r+b") as file:
        for offset in (500_000, 10, 999_000):
            file.seek(offset)
            file.write(b"edited")
            expected[offset : offset + 6] = b"edited"
        file.flush()
        assert stored.read_bytes() == CONTENT, "nobody sees half of an edit"
    until(lambda: served.writers == [])
    assert stored.read_bytes() == expected
    with path.open("ab") as file:
        file.write(b"appended")
    until(lambda: served.writers == [])
    assert stored.read_bytes() == expected + b"appended"
    os.truncate(path, 1000)
    assert stored.read_bytes() == expected[:1000]
    with path.open("wb") as file:
        file.write(b"new")
        file.flush()
        os.fsync(file.fileno())
        assert stored.read_bytes() == b"new", "that is what fsync(2) promises"
        file.write(b" and more")
    until(lambda: stored.read_bytes() == b"new and more")


def test_what_is_not_done_is_an_error_of_the_system_call(served: SshServed, mounted: Path) -> None:
    (served.data / "shared/kept").write_bytes(CONTENT)
    for call in (
        lambda: os.symlink("kept", mounted / "link"),
        lambda: os.link(mounted / "kept", mounted / "link"),
        lambda: os.chmod(mounted / "kept", 0o777),
        lambda: os.rmdir(mounted / "folder"),
        lambda: os.mkdir(mounted / "folder"),
        lambda: os.open(mounted / "gone/file", os.O_CREAT | os.O_WRONLY),
    ):
        with pytest.raises(OSError):
            call()
    assert {path.name for path in (served.data / "shared").iterdir()} >= {"kept", "folder"}
    assert not (served.data / "shared/link").is_symlink()


def test_who_may_read_only_changes_nothing(served: SshServed, tmp_path: Path) -> None:
    stored = served.data / "shared/folder"
    with sshfs(served, served.login("shared/folder", READ), tmp_path / "mounted") as mounted:
        assert (mounted / "file").read_bytes() == CONTENT
        assert (mounted / "file").stat().st_mode & 0o222 == 0
        for call in (
            lambda: (mounted / "new").write_bytes(b"new"),
            lambda: (mounted / "file").write_bytes(b"new"),
            lambda: (mounted / "file").open("r+b"),
            lambda: os.truncate(mounted / "file", 1),
            lambda: os.unlink(mounted / "file"),
            lambda: os.mkdir(mounted / "new"),
            lambda: os.rename(mounted / "file", mounted / "new"),
        ):
            with pytest.raises(OSError) as raised:
                call()
            assert raised.value.errno == errno.EACCES
    assert {path.name: path.read_bytes() for path in stored.iterdir()} == {"file": CONTENT}


def test_a_user_sees_the_whole_tree_until_the_share_ends(served: SshServed, tmp_path: Path) -> None:
    login = served.login("shared/folder", WRITE)
    with (
        sshfs(served, "alice", tmp_path / "all") as tree,
        sshfs(served, login, tmp_path / "one", "-o", "cache=no") as one,
    ):
        assert {path.name for path in tree.iterdir()} >= {"home", "frozen", "other", "received"}
        assert (tree / "home/shared/folder/file").read_bytes() == CONTENT
        assert (one / "file").read_bytes() == CONTENT
        served.end(login)
        until(lambda: not readable(one / "file"), 5)
        assert readable(tree / "home/shared/folder/file")


def readable(path: Path) -> bool:
    try:
        path.read_bytes()
    except OSError:
        return False
    return True
