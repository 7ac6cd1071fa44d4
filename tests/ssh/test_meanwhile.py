"""Somebody else puts a file where a client is writing: what is there is lost to nobody who has not said so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import paramiko
import pytest

from ..dav.served import WRITE
from .clients import paramiko_sftp, running, until
from .served import SshServed
from .sftp_talk import APPENDING, CREATING, EXCLUSIVE, READING, TRUNCATING, WRITING

THEIRS = b"precious"
SIZE = 3 << 20  # bytes, of which a client that is told to be slow sends a part in the time of a test
SLOWLY = "40000"  # kbit/s
KEPT = "Somebody else has changed the file meanwhile; theirs is kept"
MAKING = WRITING | CREATING


@pytest.fixture
def client(served: SshServed, folder: Path) -> Iterator[paramiko.SFTPClient]:
    with paramiko_sftp(served, served.login(folder.name, WRITE)) as client:
        yield client
    assert [path.name for path in folder.iterdir()] == ["file"], "nothing is left of what was refused"


@pytest.fixture
def other(served: SshServed, folder: Path) -> Iterator[paramiko.SFTPClient]:
    """Somebody else, who works on the same folder."""
    with paramiko_sftp(served, served.login(folder.name, WRITE)) as client:
        yield client


def opened(client: paramiko.SFTPClient, flags: int) -> bytes:
    """Open `file` with these flags of SFTP, and return its handle."""
    _, answer = client._request(paramiko.sftp.CMD_OPEN, b"file", flags, paramiko.SFTPAttributes())
    return answer.get_binary()  # type: ignore[no-any-return]


def write(client: paramiko.SFTPClient, handle: bytes, offset: int, data: bytes) -> None:
    client._request(paramiko.sftp.CMD_WRITE, handle, paramiko.sftp.int64(offset), data)


def close(client: paramiko.SFTPClient, handle: bytes) -> None:
    client._request(paramiko.sftp.CMD_CLOSE, handle)


def put(client: paramiko.SFTPClient, content: bytes) -> None:
    with client.open("file", "w") as file:
        file.write(content)


@pytest.mark.parametrize(
    ("present", "flags"),
    [
        (b"", WRITING),
        (b"", READING | WRITING),
        (b"", WRITING | APPENDING),
        (b"", MAKING),
        (b"old", WRITING),
        (None, MAKING),
        (None, MAKING | APPENDING),
    ],
)
def test_who_writes_nothing_changes_nothing(
    folder: Path, client: paramiko.SFTPClient, other: paramiko.SFTPClient, present: bytes | None, flags: int
) -> None:
    if present is not None:
        (folder / "file").write_bytes(present)
    handle = opened(client, flags)
    put(other, THEIRS)
    close(client, handle)
    assert (folder / "file").read_bytes() == THEIRS


@pytest.mark.parametrize(
    ("present", "flags", "mine"),
    [
        (b"", WRITING, b"mine"),
        (b"", WRITING | APPENDING, b"mine"),
        (b"old", WRITING, b"more than there was"),
        (b"old", WRITING | APPENDING, b"mine"),
        (None, MAKING, b"mine"),
        (None, MAKING | APPENDING, b"mine"),
        (None, MAKING | EXCLUSIVE, b""),
        (None, MAKING | TRUNCATING | EXCLUSIVE, b"mine"),
    ],
)
def test_who_closes_last_is_refused(
    folder: Path,
    client: paramiko.SFTPClient,
    other: paramiko.SFTPClient,
    present: bytes | None,
    flags: int,
    mine: bytes,
) -> None:
    if present is not None:
        (folder / "file").write_bytes(present)
    handle = opened(client, flags)
    if mine:
        write(client, handle, 0, mine)
    put(other, THEIRS)
    with pytest.raises(OSError, match=KEPT):
        close(client, handle)
    assert (folder / "file").read_bytes() == THEIRS


@pytest.mark.parametrize("flags", [WRITING | TRUNCATING, MAKING | TRUNCATING])
@pytest.mark.parametrize("mine", [b"", b"mine"])
def test_who_has_emptied_it_puts_its_own_there(
    folder: Path, client: paramiko.SFTPClient, other: paramiko.SFTPClient, flags: int, mine: bytes
) -> None:
    (folder / "file").write_bytes(b"old")
    handle = opened(client, flags)
    put(other, THEIRS)
    if mine:
        write(client, handle, 0, mine)
    close(client, handle)
    assert (folder / "file").read_bytes() == mine


@pytest.mark.parametrize("flags", [MAKING | TRUNCATING, MAKING | EXCLUSIVE, MAKING])
def test_what_a_client_has_synced_is_what_it_changes_from_then_on(
    folder: Path, client: paramiko.SFTPClient, other: paramiko.SFTPClient, flags: int
) -> None:
    handle = opened(client, flags)
    write(client, handle, 0, b"mine")
    client._request(paramiko.sftp.CMD_EXTENDED, "fsync@openssh.com", handle)
    write(client, handle, 0, b"mine again")
    put(other, THEIRS)
    with pytest.raises(OSError, match=KEPT):
        close(client, handle)
    assert (folder / "file").read_bytes() == THEIRS


def test_of_two_who_append_to_a_new_file_no_line_is_lost_silently(
    folder: Path, client: paramiko.SFTPClient, other: paramiko.SFTPClient
) -> None:
    first, second = opened(client, MAKING | APPENDING), opened(other, MAKING | APPENDING)
    write(client, first, 0, b"one\n")
    write(other, second, 0, b"two\n")
    close(client, first)
    with pytest.raises(OSError, match=KEPT):
        close(other, second)
    assert (folder / "file").read_bytes() == b"one\n"
    third = opened(other, MAKING | APPENDING)
    write(other, third, 0, b"two\n")
    close(other, third)
    assert (folder / "file").read_bytes() == b"one\ntwo\n"


@pytest.mark.parametrize("flags", [MAKING, MAKING | EXCLUSIVE, MAKING | APPENDING])
def test_what_goes_on_with_an_upload_takes_the_place_of_no_file(
    served: SshServed, folder: Path, other: paramiko.SFTPClient, flags: int
) -> None:
    login = served.login(folder.name, WRITE)
    with paramiko_sftp(served, login) as client, client.open("file", "w") as file:
        file.write(bytes(2 << 20))
        client.get_channel().get_transport().close()
    until(lambda: not served.writers)
    with paramiko_sftp(served, login) as client:
        size = client.stat("file").st_size
        assert size
        early, late, idle = opened(client, flags), opened(client, flags), opened(client, flags)
        write(client, early, size, b"the end")
        put(other, THEIRS)
        with pytest.raises(OSError, match=KEPT):
            write(client, late, size, b"the end")
        for handle in (early, late):
            with pytest.raises(OSError, match=KEPT):
                close(client, handle)
        with pytest.raises(OSError, match=KEPT) if flags & EXCLUSIVE else nullcontext():
            close(client, idle)
    assert (folder / "file").read_bytes() == THEIRS


@pytest.mark.parametrize("present", [b"old", None])
def test_scp_puts_nothing_in_the_place_of_what_has_come_meanwhile(
    served: SshServed,
    folder: Path,
    client: paramiko.SFTPClient,
    other: paramiko.SFTPClient,
    tmp_path: Path,
    present: bytes | None,
) -> None:
    """It opens a file without emptying it, so nobody can tell that it means to replace whatever comes."""
    (tmp_path / "up").write_bytes(bytes(SIZE))
    if present is not None:
        (folder / "file").write_bytes(present)
    login = served.login(folder.name, WRITE)
    with running(served.scp_command("-l", SLOWLY, f"{tmp_path}/up", f"{login}:file")) as scp:
        until(lambda: any(writer.written for writer in served.writers))
        put(other, THEIRS)
        assert scp.wait(20) == 1
    assert (folder / "file").read_bytes() == THEIRS
