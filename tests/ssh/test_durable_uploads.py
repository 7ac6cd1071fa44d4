"""When content is there: after the client's own CLOSE or fsync, whole and durable, and not before; or not at all."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import paramiko
import pytest
import structlog

from ..dav.served import WRITE
from ..faults import disks
from ..memory import memory_growth
from .clients import fsync, paramiko_sftp, rclone_sftp
from .served import SshServed

CONTENT = os.urandom(1_000_000)
SMALL = 24 * disks.MIB  # bytes of the disk
TOO_MUCH = SMALL + disks.MIB
OLD = b"old content"

_numbers = itertools.count()


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A disk of its own, whose image is beside it under the name `disk.img`."""
    base = tmp_path_factory.mktemp("disk")
    with disks.loop(base / "disk", disks.image(base / "disk.img", SMALL)) as disk:
        yield disk


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, disk: Path) -> Iterator[SshServed]:
    with SshServed(tmp_path_factory.mktemp("ssh"), data=disk / "data") as served:
        yield served
        assert served.temporaries() == []


@pytest.fixture
def login(served: SshServed, tmp_path: Path) -> str:
    """A Share of the folder `here`."""
    folder = served.data / "here"
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    (folder / "old").write_bytes(OLD)
    return served.login("here", WRITE)


def after_a_power_cut(disk: Path, tmp_path: Path) -> dict[str, bytes]:
    """Return what is in the folder `here` when the power goes now."""
    copy, where = tmp_path / "copy.img", tmp_path / f"after-{next(_numbers)}"
    disks.run("cp", "--sparse=always", disk.with_name("disk.img"), copy)
    with disks.loop(where, copy) as after:
        found = {path.name: path.read_bytes() for path in (after / "data/here").iterdir()}
    copy.unlink()
    return found


def test_what_a_client_was_told_is_there_survives_a_power_cut(
    served: SshServed, login: str, disk: Path, tmp_path: Path
) -> None:
    (tmp_path / "up").write_bytes(CONTENT)
    disks.run("sync", "--file-system", disk)
    done = served.sftp(f"put {tmp_path}/up old\nput {tmp_path}/up new\nmkdir folder\nrmdir folder\n", login)
    assert done.returncode == 0, done.stderr
    assert after_a_power_cut(disk, tmp_path) == {"old": CONTENT, "new": CONTENT}
    for words in (("-p", f"{tmp_path}/up", f"{login}:third"), ("-O", f"{tmp_path}/up", f"{login}:fourth")):
        assert served.scp(*words).returncode == 0
    assert after_a_power_cut(disk, tmp_path) == dict.fromkeys(("old", "new", "third", "fourth"), CONTENT)


def test_content_is_there_from_the_close_on_and_not_before(served: SshServed, login: str) -> None:
    with paramiko_sftp(served, login) as client, paramiko_sftp(served, login) as other:
        for name, before in (("new", None), ("old", OLD)):
            with client.open(name, "w") as file:
                file.write(CONTENT)
                assert file.stat().st_size == client.stat(name).st_size == len(CONTENT), "who writes sees that"
                assert content(other, name) == before
                assert name == "old" or name not in other.listdir()
            assert content(other, name) == CONTENT


def test_content_is_durable_from_an_fsync_on_and_goes_on_after_it(
    served: SshServed, login: str, disk: Path, tmp_path: Path
) -> None:
    with paramiko_sftp(served, login) as client, paramiko_sftp(served, login) as other:
        file = client.open("new", "w")
        file.write(CONTENT)
        file.flush()
        assert content(other, "new") is None
        fsync(file)
        assert content(other, "new") == CONTENT
        assert after_a_power_cut(disk, tmp_path)["new"] == CONTENT
        file.write(b"more")
        assert content(other, "new") == CONTENT
        file.close()
        assert content(other, "new") == CONTENT + b"more"
        with client.open("synced", "w") as file:
            file.write(CONTENT)
            fsync(file)
    assert (served.data / "here/synced").read_bytes() == CONTENT


@pytest.mark.parametrize("mode", ["wx", "w", "a"])
def test_what_a_client_has_synced_is_its_own_to_change(served: SshServed, login: str, mode: str) -> None:
    with paramiko_sftp(served, login) as client:
        file = client.open("new", mode)
        for offset, data in ((0, b"head and tail"), (0, b"HEAD"), (13, b"...")):
            client._request(paramiko.sftp.CMD_WRITE, file.handle, paramiko.sftp.int64(offset), data)
            fsync(file)
        client._request(paramiko.sftp.CMD_CLOSE, file.handle)
    expected = b"head and tailHEAD..." if mode == "a" else b"HEAD and tail..."
    assert (served.data / "here/new").read_bytes() == expected


def test_an_fsync_by_put_f_keeps_the_content_and_the_time(served: SshServed, login: str, tmp_path: Path) -> None:
    (tmp_path / "up").write_bytes(CONTENT)
    os.utime(tmp_path / "up", (1_500_000_000, 1_500_000_000))
    done = served.sftp(f"put -fp {tmp_path}/up new\nput -f {tmp_path}/up old\n", login)
    assert done.returncode == 0, done.stderr
    assert (served.data / "here/new").read_bytes() == (served.data / "here/old").read_bytes() == CONTENT
    assert (served.data / "here/new").stat().st_mtime == 1_500_000_000


def test_a_client_that_goes_after_an_fsync_leaves_what_it_synced(served: SshServed, login: str) -> None:
    with paramiko_sftp(served, login) as client:
        file = client.open("new", "w")
        file.write(CONTENT)
        fsync(file)
        file.write(b"half a line")
        file.flush()
        client.get_channel().get_transport().close()
    with paramiko_sftp(served, login) as other:
        assert content(other, "new") == CONTENT


def test_on_a_full_disk_clients_are_told_so_and_nothing_is_left(
    served: SshServed, login: str, tmp_path: Path, rclone: str
) -> None:
    with (tmp_path / "up").open("wb") as file:
        file.truncate(TOO_MUCH)
    before = {"old": OLD}
    for name in ("old", "new"):
        done = served.sftp(f"put {tmp_path}/up {name}\n", login)
        assert done.returncode == 1
        assert b"Failure" in done.stderr, "all that OpenSSH says of what has no code of its own"
        assert on(served) == before
        assert served.scp(f"{tmp_path}/up", f"{login}:{name}").returncode == 1
        assert on(served) == before
        done = served.scp("-O", f"{tmp_path}/up", f"{login}:{name}")
        assert done.returncode == 1
        assert b"No space left on the storage; nothing was stored" in done.stderr
        assert on(served) == before
    with structlog.testing.capture_logs() as lines:
        failed = rclone_sftp(rclone, served, login).attempt("copyto", tmp_path / "up", "door:new")
    told = [line for line in lines if line["event"] == "sftp.refused" and line["code"] == "OUT_OF_SPACE"]
    assert 1 <= len(told) <= 3, "not a line for each of the writes that are on their way"
    assert failed.returncode != 0
    assert "No space left on the storage" in failed.stderr
    assert on(served) == before
    with paramiko_sftp(served, login) as client:
        file = client.open("new", "w")
        file.set_pipelined(False)
        with pytest.raises(OSError, match="No space left on the storage"):  # noqa: PT012
            for _ in range(TOO_MUCH // disks.MIB):
                file.write(b"x" * disks.MIB)
        with pytest.raises(OSError, match="No space left on the storage"):
            client._request(paramiko.sftp.CMD_CLOSE, file.handle)
        assert on(served) == before
        with client.open("new", "w") as file:
            file.write(CONTENT)
    assert on(served) == before | {"new": CONTENT}


def test_a_client_that_goes_on_sending_after_a_failure_costs_no_memory(served: SshServed, login: str) -> None:
    """What has failed is raised again at each write, and must not gather all of them behind it."""
    ballast = disks.filled(served.data)
    piece = b"x" * 32_768
    try:
        with paramiko_sftp(served, login) as client:
            file = client.open("new", "w")

            def send(count: int) -> None:
                for _ in range(count):
                    with pytest.raises(OSError, match="No space left on the storage"):
                        client._request(paramiko.sftp.CMD_WRITE, file.handle, paramiko.sftp.int64(0), piece)

            send(100)
            (growth,) = memory_growth([os.getpid()], lambda: send(1500))
    finally:
        ballast.unlink()
    assert growth < 1500 * len(piece) / 2


def on(served: SshServed) -> dict[str, bytes]:
    """Return every file of the folder, whatever its name."""
    return {path.name: path.read_bytes() for path in (served.data / "here").iterdir()}


def content(client: paramiko.SFTPClient, name: str) -> bytes | None:
    try:
        with client.open(name) as file:
            return file.read()
    except FileNotFoundError:
        return None
