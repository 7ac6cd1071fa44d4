"""Transfers that were cut off and go on: sftp's `reget` and `reput`, and what rclone makes of a link that fails."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import structlog

from ..dav.served import READ, WRITE
from ..faulty_link import FaultyLink
from .clients import paramiko_sftp, rclone_sftp, running, until
from .served import SshServed

SIZE = 8 << 20  # bytes
CONTENT = os.urandom(SIZE)
ARRIVED = 2 << 20  # bytes; when so many are there, the client dies
SLOWLY = "40000"  # kbit/s that a client is told to send at most
FAR = 5 << 30  # bytes; an offset that 32 bits cannot tell


@pytest.fixture
def folder(folder: Path, tmp_path: Path) -> Path:
    """The client has a file to send there."""
    (tmp_path / "file").write_bytes(CONTENT)
    return folder


def passed(lines: list[Any], event: str) -> list[int]:
    """Return how many bytes went through each handle, as the log says."""
    return [line["bytes"] for line in lines if line["event"] == event]


def test_a_download_goes_on(served: SshServed, folder: Path, tmp_path: Path) -> None:
    (folder / "file").write_bytes(CONTENT)
    login, down = served.login(folder.name, READ), tmp_path / "down"
    with running(served.sftp_command(login, "-l", SLOWLY), f"get file {down}\n") as process:
        until(lambda: down.exists() and down.stat().st_size >= ARRIVED)
        process.kill()
    had = down.stat().st_size
    assert had < SIZE
    with structlog.testing.capture_logs() as lines:
        done = served.sftp(f"reget file {down}\n", login)
    assert done.returncode == 0, done.stderr
    assert down.read_bytes() == CONTENT
    until(lambda: SIZE - had in passed(lines, "ssh.reading"))


def cut_off(served: SshServed, login: str, up: Path) -> int:
    """Have an upload to `file` die, and return how many bytes of it the door tells of then."""
    with running(served.sftp_command(login, "-l", SLOWLY), f"put {up} file\n") as process:
        until(lambda: any(writer.written >= ARRIVED for writer in served.writers))
        process.kill()
        until(lambda: not served.writers)
    with paramiko_sftp(served, login) as client:
        assert client.listdir() == []
        return client.stat("file").st_size or 0


def test_an_upload_goes_on_where_it_was_cut_off(served: SshServed, folder: Path, tmp_path: Path) -> None:
    login, other = served.login(folder.name, WRITE), served.login(folder.name, WRITE)
    had = cut_off(served, login, tmp_path / "file")
    assert ARRIVED <= had < SIZE
    with paramiko_sftp(served, other) as client, pytest.raises(FileNotFoundError):
        client.stat("file")
    with structlog.testing.capture_logs() as lines:
        done = served.sftp(f"reput {tmp_path}/file file\nls -l\n", login)
    assert done.returncode == 0, done.stderr
    assert (folder / "file").read_bytes() == CONTENT
    assert passed(lines, "ssh.writing") == [SIZE - had]
    assert served.temporaries() == []


def test_what_is_left_may_be_begun_anew_and_removed(served: SshServed, folder: Path, tmp_path: Path) -> None:
    login = served.login(folder.name, WRITE)
    cut_off(served, login, tmp_path / "file")
    (tmp_path / "other").write_bytes(b"other")
    assert served.sftp(f"put {tmp_path}/other file\n", login).returncode == 0
    assert (folder / "file").read_bytes() == b"other"
    assert served.temporaries() == []
    (folder / "file").unlink()
    cut_off(served, login, tmp_path / "file")
    done = served.sftp("rm file\n-ls file\n", login)
    assert done.returncode == 0, done.stderr
    assert b"not found" in done.stderr
    assert served.temporaries() == []


def test_the_rest_alone_is_not_stored_where_the_beginning_is_gone(
    served: SshServed, folder: Path, tmp_path: Path
) -> None:
    login = served.login(folder.name, WRITE)
    cut_off(served, login, tmp_path / "file")
    for path in served.temporaries():  # as an operator who clears up
        path.unlink()
    done = served.sftp(f"reput {tmp_path}/file file\n", login)
    assert done.returncode == 1, done.stdout
    assert list(folder.iterdir()) == []
    done = served.sftp(f"put {tmp_path}/file file\n", login)
    assert done.returncode == 0, done.stderr
    assert (folder / "file").read_bytes() == CONTENT


def test_a_cut_continuation_goes_on_again(served: SshServed, folder: Path, tmp_path: Path) -> None:
    login = served.login(folder.name, WRITE)
    had = cut_off(served, login, tmp_path / "file")
    with running(served.sftp_command(login, "-l", SLOWLY), f"reput {tmp_path}/file file\n") as process:
        until(lambda: any(writer.written >= had + ARRIVED for writer in served.writers))
        process.kill()
        until(lambda: not served.writers)
    assert [path for path in folder.iterdir() if path not in served.temporaries()] == []
    done = served.sftp(f"reput {tmp_path}/file file\n", login)
    assert done.returncode == 0, done.stderr
    assert (folder / "file").read_bytes() == CONTENT
    assert served.temporaries() == []


def test_a_file_that_is_there_grows(served: SshServed, folder: Path, tmp_path: Path) -> None:
    (folder / "file").write_bytes(CONTENT[:1000])
    with structlog.testing.capture_logs() as lines:
        done = served.sftp(f"reput {tmp_path}/file file\n", served.login(folder.name, WRITE))
    assert done.returncode == 0, done.stderr
    assert (folder / "file").read_bytes() == CONTENT
    assert passed(lines, "ssh.writing") == [SIZE - 1000]


def test_beyond_what_32_bits_can_tell(served: SshServed, folder: Path, tmp_path: Path) -> None:
    """The file is nearly all holes; only what lies behind them goes over the wire."""
    login, down = served.login(folder.name, WRITE), tmp_path / "down"
    for path in (folder / "big", down):
        with path.open("wb") as file:
            file.truncate(FAR)
    with (folder / "big").open("ab") as file:
        file.write(CONTENT)
    done = served.sftp(f"ls -l\nreget big {down}\n", login)
    assert done.returncode == 0, done.stderr
    assert str(FAR + SIZE).encode() in done.stdout
    assert down.stat().st_size == FAR + SIZE
    with down.open("rb") as file:
        file.seek(FAR)
        assert file.read() == CONTENT
    down.unlink()
    with paramiko_sftp(served, login) as client:
        with client.open("far", "w") as file:
            file.seek(FAR)
            file.write(b"the end")
        with client.open("far") as file:
            file.seek(FAR - 1)
            assert file.read() == b"\0the end"
    assert (folder / "far").stat().st_size == FAR + 7
    for name in ("big", "far"):
        (folder / name).unlink()


def test_rclone_gets_everything_through_a_link_that_is_cut(
    served: SshServed, folder: Path, tmp_path: Path, rclone: str
) -> None:
    login = served.login(folder.name, WRITE)
    often = ("--low-level-retries", "5", "--retries", "3", "--retries-sleep", "10ms")
    with FaultyLink(served.ssh_port) as link:
        client = rclone_sftp(rclone, served, login, link.port)
        link.cut_after(SIZE // 2, up=True)
        client("copyto", *often, tmp_path / "file", "door:file")
        assert link.accepted > 1
        assert (folder / "file").read_bytes() == CONTENT
        until(lambda: not served.writers)
        before = link.accepted
        link.cut_after(SIZE // 2)
        client("copyto", *often, "door:file", tmp_path / "down")
        assert link.accepted > before + 1
    assert (tmp_path / "down").read_bytes() == CONTENT
    assert {path.name for path in folder.iterdir() if path not in served.temporaries()} == {"file"}
