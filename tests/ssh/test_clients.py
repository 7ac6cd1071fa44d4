"""OpenSSH's sftp: a user's whole tree and Shares are listed, read and changed, and what is not granted is refused."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest

from backends.memory import MemoryBackend
from backends.paths import StoragePath
from backends.pool import Pool
from gateway.ocm.shares import Permission
from gateway.store import received_shares
from gateway.store.received_shares import ReceivedShare
from gateway.tree import Storage

from .. import parts
from ..dav.served import READ, WRITE
from .clients import paramiko_sftp
from .served import SshServed

CONTENT = os.urandom(1_000_000)
NAME = "report"


@pytest.fixture(scope="module")
def served(served: SshServed) -> SshServed:
    served.tree._remote = partial(remote, served)
    receive(served, "measured", READ)
    receive(served, "common", WRITE)
    return served


async def remote(served: SshServed, share: ReceivedShare) -> Storage:
    return served.storages[share.storage]


def receive(served: SshServed, name: str, permissions: frozenset[Permission]) -> None:
    """Have alice accept a Share, which is in memory here."""
    backend = MemoryBackend()
    with backend.open_write(StoragePath.parse(NAME)) as writer:
        writer.write(CONTENT)
        writer.commit()
    share = parts.received(
        f"received-{name}", provider_id=name, state="accepted", mount=name, permissions=permissions, root_kind="folder"
    )
    served.storages[share.storage] = Storage(share.storage, backend, Pool(name, threads=1))
    served.store.run_sync(lambda tx: received_shares.add(tx, share, None, None))


@pytest.fixture
def folder(folder: Path, tmp_path: Path) -> Path:
    """It holds one file, and the client has another."""
    (folder / NAME).write_bytes(CONTENT)
    (tmp_path / "up").write_bytes(CONTENT[::-1])
    return folder


def test_a_user_works_in_the_whole_tree(served: SshServed, folder: Path, tmp_path: Path) -> None:
    os.utime(tmp_path / "up", (1_500_000_000, 1_500_000_000))
    done = served.sftp(
        f"""ls -1
        ls -1 /received
        cd home/{folder.name}
        mkdir made
        put -p {tmp_path}/up made/new
        ls -l made
        rename made/new made/newer
        rename made/newer {NAME}
        rm {NAME}
        rmdir made
        put {tmp_path}/up /other/in-memory
        get /other/in-memory {tmp_path}/down
        get /received/measured/{NAME} {tmp_path}/received
        put {tmp_path}/up /received/common/{NAME}
        get /received/common/{NAME} {tmp_path}/replaced
        df -h
        """
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout.decode()
    assert {"frozen", "home", "other", "received"} <= set(said.split())
    assert {"/received/common", "/received/measured"} <= set(said.split())
    (line,) = [line for line in said.splitlines() if line.endswith(" new")]
    assert line.split()[0] == "-rw-r--r--"
    assert line.split()[4:] == [str(len(CONTENT)), "Jul", "14", "2017", "new"], "the time, in UTC, came along"
    assert "%Capacity" in said
    assert [*folder.iterdir()] == []
    for name in ("down", "replaced"):
        assert (tmp_path / name).read_bytes() == CONTENT[::-1]
    assert (tmp_path / "received").read_bytes() == CONTENT


def test_a_share_is_its_root_and_nothing_else(served: SshServed, folder: Path, tmp_path: Path) -> None:
    login = served.login(folder.name, WRITE)
    done = served.sftp(
        f"""pwd
        put {tmp_path}/up new
        get ../../../../{NAME} {tmp_path}/down
        -ls /home
        -get ../{folder.name}/{NAME} {tmp_path}/not
        ls -1
        """,
        login,
    )
    assert done.returncode == 0, done.stderr
    assert b"Remote working directory: /\n" in done.stdout
    assert b" ls -1\nnew\nreport\nsftp>" in done.stdout
    assert done.stderr.count(b"not found") == 2
    assert (tmp_path / "down").read_bytes() == CONTENT
    assert not (tmp_path / "not").exists()


CHANGES = [
    "put {up} new",
    "put {up} report",
    "put -p {up} report",
    "mkdir made",
    "rm report",
    "rmdir empty",
    "rename report other",
]
READ_ONLY = {"share": "", "mount": "/frozen/{folder}/", "received": "/received/measured/"}


@pytest.mark.parametrize("where", READ_ONLY)
def test_where_one_may_read_only_nothing_is_changed(
    served: SshServed, folder: Path, tmp_path: Path, where: str
) -> None:
    (folder / "empty").mkdir()
    login = served.login(folder.name, READ) if where == "share" else "alice"
    here = READ_ONLY[where].format(folder=folder.name) or "/"
    commands = [change.format(up=tmp_path / "up") for change in CHANGES]
    done = served.sftp(
        "\n".join([f"cd {here}", *(f"-{one}" for one in commands), f"get {NAME} {tmp_path}/down"]), login
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "down").read_bytes() == CONTENT
    said = done.stderr.decode().lower()
    assert said.count("permission denied") == len(CHANGES), said
    assert {path.name for path in folder.iterdir()} == {NAME, "empty"}
    assert (folder / NAME).read_bytes() == CONTENT


def test_what_is_not_done_here_is_said_and_not_done(served: SshServed, folder: Path, tmp_path: Path) -> None:
    login = served.login(folder.name, WRITE)
    (folder / "full").mkdir()
    (folder / "full/file").touch()
    refused = {
        f"ln -s {NAME} link": "Operation unsupported",
        f"ln {NAME} link": "not support",
        f"chmod 600 {NAME}": "Operation unsupported",
        f"chown 1 {NAME}": "Can't get current ownership",
        "rmdir full": "Failure",
        f"rmdir {NAME}": "No such file",
        "rm full": "Failure",
        f"mkdir {NAME}": "Failure",
        f"put {tmp_path}/up gone/file": "No such file",
        f"put {tmp_path}/up {NAME}/below": "No such file",
        f"rename {NAME} full": "Failure",
        "get gone": "not found",
    }
    before = {path: path.stat() for path in folder.rglob("*")}
    done = served.sftp("".join(f"-{command}\n" for command in refused), login)
    for line, (command, sentence) in zip(done.stderr.decode().splitlines(), refused.items(), strict=True):
        assert sentence in line, (command, line)
    assert {path: path.stat() for path in folder.rglob("*")} == before


def test_a_share_of_one_file_is_a_folder_that_holds_it(served: SshServed, folder: Path, tmp_path: Path) -> None:
    login = served.login(f"{folder.name}/{NAME}", WRITE)
    (folder / "secret").touch()
    done = served.sftp(
        f"""ls -1
        get {NAME} {tmp_path}/down
        put {tmp_path}/up {NAME}
        -put {tmp_path}/up new
        -mkdir new
        -rename {NAME} new
        -rm {NAME}
        -ls secret
        -get /../secret {tmp_path}/secret
        """,
        login,
    )
    assert done.stdout.decode().split("sftp>")[1].split()[-1] == NAME
    assert (tmp_path / "down").read_bytes() == CONTENT
    assert (folder / NAME).read_bytes() == CONTENT[::-1]
    assert {path.name for path in folder.iterdir()} == {NAME, "secret"}
    assert done.stderr.count(b"ermission denied") + done.stderr.count(b"not found") == 6, done.stderr
    assert not (tmp_path / "secret").exists()


def test_the_sentences_of_refusals_reach_a_client_that_shows_them(served: SshServed, folder: Path) -> None:
    """OpenSSH shows a sentence of its own for each code; rclone and paramiko pass on what the door says."""
    reader, writer = served.login(folder.name, READ), served.login(folder.name, WRITE)
    (folder / "full").mkdir()
    (folder / "full/file").touch()
    with paramiko_sftp(served, reader) as client:
        with pytest.raises(PermissionError, match="This is read-only for you"):
            client.open("new", "w")
        with pytest.raises(PermissionError, match="This is read-only for you"):
            client.remove(NAME)
        with pytest.raises(FileNotFoundError, match="No such file"):
            client.stat("gone")
    with paramiko_sftp(served, writer) as client:
        for sentence, work in (
            ("Directory not empty", lambda: client.rmdir("full")),
            ("File exists", lambda: client.mkdir("full")),
            ("File exists", lambda: client.rename(NAME, "full/file")),
            ("Is a directory", lambda: client.open("full", "w")),
            ("File exists", lambda: client.open(NAME, "wx")),
            ("Links are not made here", lambda: client.symlink(NAME, "link")),
            ("Permissions and owners are the storage's own here", lambda: client.chmod(NAME, 0o600)),
        ):
            with pytest.raises(OSError, match=sentence):
                work()
    with paramiko_sftp(served) as client:
        with pytest.raises(PermissionError, match="Nothing can be made or changed here"):
            client.mkdir("/new")
        with pytest.raises(PermissionError, match="as a whole stays where it is"):
            client.rename("/home", "/other/home")
        with pytest.raises(OSError, match="on different storage"):
            client.rename(f"/home/{folder.name}/{NAME}", "/other/moved")


def test_a_link_is_what_it_leads_to_and_none_leads_out(served: SshServed, folder: Path, tmp_path: Path) -> None:
    (folder / "inside").symlink_to(NAME)
    (folder / "outside").symlink_to("/etc/passwd")
    (folder / "beside").symlink_to("..")
    login = served.login(folder.name)
    done = served.sftp(f"ls -l\nget inside {tmp_path}/down\n-get outside {tmp_path}/o\n-ls -1 beside/../..\n", login)
    assert (tmp_path / "down").read_bytes() == CONTENT
    assert not (tmp_path / "o").exists()
    shown = [line.split() for line in done.stdout.decode().splitlines() if line.startswith("-")]
    assert [(line[0], line[-1]) for line in shown if line[-1] != NAME] == [("-r--r--r--", "inside")]
