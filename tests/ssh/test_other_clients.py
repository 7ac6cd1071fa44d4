"""rclone, and paramiko as a second implementation of SFTP: they list, read, write, move, and are refused."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import paramiko
import pytest

from ..dav.served import READ, WRITE
from .clients import paramiko_sftp, rclone_sftp, transport
from .served import SshServed

CONTENT = os.urandom(2_000_000)
NAMES = ["with space", "h\u00e9t \u65e5\u672c", "per%20cent", "'quoted\"", "a\\b", "-rf", "~"]
RAW = [b"latin-\xe9", b"two\nlines", b"\x01\x7f", b"x" * 255]  # what is not text, or hardly


def test_rclone_mirrors_both_ways(served: SshServed, folder: Path, tmp_path: Path, rclone: str) -> None:
    client = rclone_sftp(rclone, served, served.login(folder.name, WRITE))
    source = tmp_path / "source"
    for name in NAMES:
        (source / name).mkdir(parents=True)
        (source / name / name).write_text(name)
    (source / "big").write_bytes(CONTENT)
    (source / "nothing").touch()
    os.utime(source / "big", (1_500_000_000, 1_500_000_000))
    client("sync", source, "door:mirror")
    assert tree(folder / "mirror") == tree(source)
    assert (folder / "mirror/big").stat().st_mtime == 1_500_000_000
    client("check", "--download", source, "door:mirror")
    client("moveto", "door:mirror/big", "door:moved")
    client("sync", "door:", tmp_path / "back")
    assert tree(tmp_path / "back/mirror") == {name: value for name, value in tree(source).items() if name != "big"}
    assert (tmp_path / "back/moved").read_bytes() == CONTENT
    client("purge", "door:mirror")
    assert [path.name for path in folder.iterdir()] == ["moved"]
    assert "moved" in client("lsl", "door:")
    assert "Free" in client("about", "door:")


def tree(top: Path) -> dict[str, bytes]:
    return {str(path.relative_to(top)): path.read_bytes() for path in top.rglob("*") if path.is_file()}


def test_rclone_is_refused_with_the_doors_own_words(
    served: SshServed, folder: Path, tmp_path: Path, rclone: str
) -> None:
    (folder / "file").write_bytes(CONTENT)
    client = rclone_sftp(rclone, served, served.login(folder.name, READ))
    (tmp_path / "up").write_bytes(b"new")
    assert client("cat", "door:file", "--count", "0") == ""
    for words in (
        ("copyto", tmp_path / "up", "door:file"),
        ("copyto", tmp_path / "up", "door:new"),
        ("deletefile", "door:file"),
        ("mkdir", "door:made"),
        ("moveto", "door:file", "door:moved"),
    ):
        done = client.attempt(*words)
        assert done.returncode != 0, words
        assert "ermission denied" in done.stderr or "This is read-only for you" in done.stderr, done.stderr
    assert tree(folder) == {"file": CONTENT}


def test_paramiko_reads_and_writes_anywhere_in_a_file(served: SshServed, folder: Path) -> None:
    with paramiko_sftp(served, served.login(folder.name, WRITE)) as client:
        with client.open("file", "w") as file:
            file.set_pipelined(True)
            file.write(CONTENT)
        assert (folder / "file").read_bytes() == CONTENT
        with client.open("file") as file:
            assert file.readv([(1_000_000, 10), (0, 5), (1_999_990, 100)])
            file.prefetch()
            assert file.read() == CONTENT
            assert file.stat().st_size == len(CONTENT)
        with client.open("file", "r+") as file:
            file.seek(1_000_000)
            file.write(b"in the middle")
            file.seek(1_000_000)
            assert file.read(13) == b"in the middle"
            file.truncate(1_000_013)
        assert (folder / "file").read_bytes() == CONTENT[:1_000_000] + b"in the middle"
        with client.open("file", "a") as file:
            file.write(b", appended")
        assert (folder / "file").read_bytes().endswith(b"in the middle, appended")
        with client.open("nothing", "w"):
            pass
        assert (folder / "nothing").read_bytes() == b""
        client.truncate("file", 3)
        client.utime("file", (1, 1_500_000_000))
        assert (folder / "file").stat().st_mtime == 1_500_000_000
        client.rename("file", "other")
        client.posix_rename("other", "nothing")
        with pytest.raises(OSError, match="File exists"):
            client.open("nothing", "wx")
        client.mkdir("folder")
        assert stat.S_ISDIR(client.stat("folder").st_mode or 0)
        client.rmdir("folder")
        client.remove("nothing")
        assert client.listdir() == []


def test_names_in_any_bytes_come_and_go(served: SshServed, folder: Path) -> None:
    below = os.fsencode(folder)
    with paramiko_sftp(served, served.login(folder.name, WRITE)) as client:
        for name in RAW:
            with client.open(name, "w") as file:
                file.write(name)
        assert set(os.listdir(below)) == set(RAW)
        for name in RAW:
            with client.open(name) as file:
                assert file.read() == name
            client.rename(name, b"new " + name[:200])
            client.remove(b"new " + name[:200])
        for name in (b"x" * 256, b"a\0b"):
            with pytest.raises(OSError):
                client.open(name, "w")
        for name in (b"", b".", b"..", b"/", b"../.."):
            assert client.normalize(name) == "/"
            with pytest.raises(OSError):
                client.open(name, "w")
    assert os.listdir(below) == []


def test_what_paramiko_may_not_do(served: SshServed, folder: Path) -> None:
    """No shell, no command, no terminal, no forwarding; the connection goes on."""
    with transport(served, served.login(folder.name, WRITE)) as connection:
        for ask in (lambda channel: channel.get_pty(), lambda channel: channel.invoke_subsystem("netconf")):
            channel = connection.open_session()
            with pytest.raises(paramiko.SSHException):
                ask(channel)
        for ask in (
            lambda channel: channel.invoke_shell(),
            lambda channel: channel.exec_command("id"),
            lambda channel: channel.exec_command("scp -S/bin/sh -t ."),
        ):
            channel = connection.open_session()
            ask(channel)
            assert b"sftp" in channel.makefile_stderr().read() + channel.makefile().read()
            assert channel.recv_exit_status() != 0
        with pytest.raises(paramiko.ChannelException):
            connection.open_channel("direct-tcpip", ("127.0.0.1", served.port), ("127.0.0.1", 1))
        with pytest.raises(paramiko.SSHException):
            connection.request_port_forward("127.0.0.1", 0)
        client = paramiko.SFTPClient.from_transport(connection)
        assert client is not None
        assert client.listdir() == []
