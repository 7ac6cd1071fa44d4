"""Clients that die in the middle of an upload: it never was, and nothing lies about that is not kept to be resumed."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from backends.paths import StoragePath
from backends.temporaries import token_of
from gateway.uploads import LIFETIME

from ..dav.served import WRITE
from ..faulty_link import FaultyLink
from .clients import children, running, until
from .served import SshServed

OLD = b"old content"
SIZE = 12 << 20  # bytes
ARRIVED = 2 << 20  # bytes; when so many are there, the client dies
SLOWLY = "40000"  # kbit/s that a client is told to send at most

_numbers = itertools.count()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServed]:
    with SshServed(tmp_path_factory.mktemp("cut")) as served:
        yield served
        served.ahead = LIFETIME + 1  # what could have been resumed is debris from now on, and goes
        served.run(served.uploads.sweep(served.storages["storage"]))
        assert served.temporaries() == []


@pytest.fixture(scope="module")
def upload(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("client") / "upload"
    path.write_bytes(os.urandom(SIZE))
    return path


@pytest.fixture(params=["new", "replacing"])
def folder(request: pytest.FixtureRequest, served: SshServed) -> Path:
    """A folder, in which there is `file` with its old content or nothing."""
    folder = served.data / f"{request.param}-{next(_numbers)}"
    folder.mkdir()
    if request.param == "replacing":
        (folder / "file").write_bytes(OLD)
    return folder


class Client(NamedTuple):
    """A client's command, and what it reads."""

    command: list[str]
    commands: str = ""


def sftp(served: SshServed, login: str, port: int, upload: Path) -> Client:
    return Client(served.sftp_command(login, "-l", SLOWLY, port=port), f"put {upload} file\n")


def scp(served: SshServed, login: str, port: int, upload: Path) -> Client:
    return Client(served.scp_command("-l", SLOWLY, str(upload), f"{login}:file", port=port))


def legacy_scp(served: SshServed, login: str, port: int, upload: Path) -> Client:
    return Client(served.scp_command("-O", "-l", SLOWLY, str(upload), f"{login}:file", port=port))


def kill(process: subprocess.Popen[bytes], _link: FaultyLink) -> None:
    process.kill()


def kill_its_ssh(process: subprocess.Popen[bytes], _link: FaultyLink) -> None:
    for pid in children(process.pid):
        os.kill(pid, signal.SIGKILL)


def cut(_process: subprocess.Popen[bytes], link: FaultyLink) -> None:
    link.cut()


@pytest.mark.parametrize("end", [kill, kill_its_ssh, cut], ids=lambda end: end.__name__)
@pytest.mark.parametrize("client", [sftp, scp, legacy_scp], ids=lambda client: client.__name__)
def test_an_upload_that_stops_in_the_middle_never_was(
    served: SshServed,
    upload: Path,
    folder: Path,
    client: Callable[..., Client],
    end: Callable[[subprocess.Popen[bytes], FaultyLink], None],
) -> None:
    before = shown(served, folder)
    login = served.login(folder.name, WRITE)
    with FaultyLink(served.ssh_port) as link, running(*client(served, login, link.port, upload)) as process:
        until(lambda: any(writer.written >= ARRIVED for writer in served.writers))
        assert shown(served, folder) == before, "nothing is to be seen before the end"
        end(process, link)
        until(lambda: not served.writers)
    assert shown(served, folder) == before
    left = [path for path in served.temporaries() if path.parent == folder]
    assert len(left) <= (0 if before else 1), "what can be gone on with is kept, of a new file alone"
    assert [path for path in left if not served.is_kept(token_of(path.name.encode()))] == []


def test_an_interrupted_sftp_closes_the_file_itself(served: SshServed, upload: Path) -> None:
    """Ctrl-C: OpenSSH's client ends the transfer as if that were all, and SFTP has no word to tell the difference."""
    folder = served.data / "interrupted"
    folder.mkdir()
    command = served.sftp_command(served.login(folder.name, WRITE), "-l", SLOWLY)
    with running(command, f"put {upload} file\n") as process:
        until(lambda: any(writer.written >= ARRIVED for writer in served.writers))
        process.send_signal(signal.SIGINT)
        until(lambda: not served.writers)
    sent = (folder / "file").read_bytes()
    assert len(sent) < SIZE
    assert upload.read_bytes().startswith(sent)


def shown(served: SshServed, folder: Path) -> dict[str, bytes]:
    """Return all content that is to be seen in a folder, by this gateway or without it."""
    with served.local.scan(StoragePath.parse(folder.name)) as scan:
        names = {entry.name.decode() for entry in scan.next()}
    assert names == {path.name for path in folder.iterdir() if path not in served.temporaries()}
    return {name: (folder / name).read_bytes() for name in names}
