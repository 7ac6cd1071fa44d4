"""The times that clients give to files: set where the storage keeps such, and never at the cost of a content."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paramiko
import pytest

from backends.errors import NotFound, PermissionDenied, Unavailable
from backends.paths import StoragePath

from ..dav.served import WRITE
from ..dav.test_changes import etag_of_other
from .clients import fsync, paramiko_sftp, sshfs, until
from .served import SshServed, logged

LONG_AGO = 1_000_000_000  # seconds since 1970
CONTENT = b"content"


@pytest.fixture
def client(served: SshServed, folder: Path) -> Iterator[paramiko.SFTPClient]:
    (folder / "file").write_bytes(CONTENT)
    with paramiko_sftp(served, served.login(folder.name, WRITE)) as client:
        yield client
    until(lambda: not served.writers)
    assert served.temporaries() == []


def close(client: paramiko.SFTPClient, file: paramiko.SFTPFile) -> None:
    """Close, and raise what is answered: paramiko's own `close` does not."""
    client._request(paramiko.sftp.CMD_CLOSE, file.handle)


@pytest.mark.parametrize("by", ["handle", "path"])
@pytest.mark.parametrize("content", [CONTENT, b""])
def test_a_file_that_is_opened_for_its_time_alone_has_it_from_the_close_on(
    folder: Path, client: paramiko.SFTPClient, by: str, content: bytes
) -> None:
    path = folder / "file"
    path.write_bytes(content)
    file = client.open("file", "r+")
    file.utime((LONG_AGO, LONG_AGO)) if by == "handle" else client.utime("file", (LONG_AGO, LONG_AGO))
    assert file.stat().st_mtime == client.stat("file").st_mtime == LONG_AGO
    close(client, file)
    assert (path.stat().st_mtime, path.read_bytes()) == (LONG_AGO, content)


def test_a_time_is_that_of_the_content_which_was_there_when_it_came(folder: Path, client: paramiko.SFTPClient) -> None:
    path = folder / "file"
    file = client.open("file", "w")
    file.write(b"new")
    fsync(file)
    file.utime((LONG_AGO, LONG_AGO))
    fsync(file)
    assert path.stat().st_mtime == file.stat().st_mtime == LONG_AGO
    file.write(b"er")
    file.flush()
    close(client, file)
    assert path.read_bytes() == b"newer"
    assert path.stat().st_mtime > LONG_AGO


def test_touch_sets_the_time_of_a_file_that_is_there(
    served: SshServed, client: paramiko.SFTPClient, folder: Path, tmp_path: Path
) -> None:
    (folder / "empty").touch()
    with sshfs(served, served.login(folder.name, WRITE), tmp_path / "mounted") as mounted:
        for name in ("file", "empty"):
            subprocess.run(["touch", "-d", f"@{LONG_AGO}", mounted / name], check=True)
            until(lambda path=folder / name: path.stat().st_mtime == LONG_AGO)  # sshfs waits for no answer to CLOSE
    assert (folder / "file").read_bytes() == CONTENT


def test_the_time_of_what_somebody_else_has_put_there_stays(
    served: SshServed, folder: Path, client: paramiko.SFTPClient
) -> None:
    file = client.open("file", "r+")
    file.utime((LONG_AGO, LONG_AGO))
    (folder / "theirs").write_bytes(b"theirs")
    (folder / "theirs").rename(folder / "file")
    with pytest.raises(OSError, match="Somebody else has changed the file meanwhile"):
        close(client, file)
    assert (folder / "file").stat().st_mtime > LONG_AGO


def test_a_time_that_cannot_be_set_is_told_where_it_is_all_that_was_asked(
    served: SshServed, client: paramiko.SFTPClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_arguments: object) -> None:
        raise PermissionDenied("not yours")

    monkeypatch.setattr(served.local, "set_modified", refused)
    file = client.open("file", "r+")
    file.utime((LONG_AGO, LONG_AGO))
    with pytest.raises(PermissionError, match="The storage does not permit this"):
        close(client, file)


@pytest.mark.parametrize("error", [NotFound, PermissionDenied, Unavailable])
def test_a_content_whose_time_cannot_be_set_is_stored_and_shows(
    served: SshServed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: list[Any], error: type[Exception]
) -> None:
    def refused(*_arguments: object) -> None:
        raise error("not this")

    (tmp_path / "up").write_bytes(error.__name__.encode())
    monkeypatch.setattr(served.memory, "set_modified", refused)
    before = etag_of_other(served)
    done = served.sftp(f"put -p {tmp_path}/up /other/dated\n")
    assert done.returncode == 0, done.stderr
    with served.memory.open_read(StoragePath.parse("dated")) as reader:
        assert reader.read_at(0, 100) == error.__name__.encode()
    assert etag_of_other(served) != before
    assert logged(log, "ssh.undated") == [{"principal": "user:alice", "path": "other/dated", "reason": "not this"}]
