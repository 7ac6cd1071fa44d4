"""Files that are opened to be changed and not emptied, as `scp` does: on storage that writes anywhere, and on other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import paramiko
import pytest

from backends.local import LocalBackend

from ..dav.served import WRITE
from .clients import paramiko_sftp, until
from .served import SshServed

OLD, NEW = os.urandom(300_000), os.urandom(200_000)
LONGER = os.urandom(400_000)


def as_a_whole(backend: LocalBackend) -> LocalBackend:
    """Make storage that takes a content from its beginning to its end, as a bucket or a WebDAV server does."""

    class Whole:
        features = replace(backend.features, random_write=False)

        def __getattr__(self, name: str) -> Any:
            assert name != "open_update"
            return getattr(backend, name)

    return Whole()  # type: ignore[return-value]


@pytest.fixture(scope="module", params=["anywhere", "as a whole"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServed]:
    wrap = as_a_whole if request.param == "as a whole" else None
    with SshServed(tmp_path_factory.mktemp("ssh"), wrap=wrap) as served:
        (served.data / "shared").mkdir()
        yield served
        assert served.temporaries() == []


@pytest.fixture
def client(served: SshServed) -> Iterator[paramiko.SFTPClient]:
    (served.data / "shared/file").write_bytes(OLD)
    with paramiko_sftp(served, served.login("shared", WRITE)) as client:
        yield client


def content(served: SshServed) -> bytes:
    return (served.data / "shared/file").read_bytes()


def writes_anywhere(served: SshServed) -> bool:
    return served.backend.features.random_write


@pytest.mark.parametrize("legacy", [[], ["-O"]], ids=["sftp", "scp"])
def test_scp_puts_a_shorter_and_a_longer_file_in_the_place_of_one(
    served: SshServed, client: paramiko.SFTPClient, tmp_path: Path, legacy: list[str]
) -> None:
    for new in (NEW, LONGER, b"", NEW):
        (tmp_path / "up").write_bytes(new)
        done = served.scp(*legacy, f"{tmp_path}/up", f"{served.login('shared', WRITE)}:file")
        assert done.returncode == 0, done.stderr
        assert content(served) == new


def test_what_is_replaced_from_the_beginning_is_not_copied_first(
    served: SshServed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def update(path: Any) -> Any:
        raise AssertionError("the old content is not needed")

    (served.data / "shared/file").write_bytes(OLD)
    (tmp_path / "up").write_bytes(NEW)
    monkeypatch.setattr(served.local, "open_update", update)
    assert served.scp(f"{tmp_path}/up", "alice:home/shared/file").returncode == 0
    assert content(served) == NEW


def test_a_beginning_that_is_changed_leaves_the_rest(served: SshServed, client: paramiko.SFTPClient) -> None:
    with client.open("file", "r+") as file:
        file.write(NEW)
        assert file.stat().st_size == len(OLD)
        assert content(served) == OLD, "nobody sees half of a change"
    assert content(served) == NEW + OLD[len(NEW) :]
    with client.open("file", "r+") as file:
        file.write(LONGER)
    assert content(served) == LONGER


def test_a_size_alone_is_set(served: SshServed, client: paramiko.SFTPClient) -> None:
    client.truncate("file", 100_000)
    assert content(served) == OLD[:100_000]
    with client.open("file", "r+") as file:
        file.write(b"new")
        file.truncate(50_000)
    assert content(served) == b"new" + OLD[3:50_000]
    with client.open("file", "r+") as file:
        file.truncate(0)
        file.write(NEW)
    assert content(served) == NEW


def test_the_middle_is_changed_where_that_can_be_and_refused_where_not(
    served: SshServed, client: paramiko.SFTPClient
) -> None:
    expected = OLD
    with client.open("file", "r+") as file:
        file.write(b"beginning")
        if writes_anywhere(served):
            assert file.read(0) == b""
            file.seek(1000)
            assert file.read(5) == OLD[1000:1005]
            file.seek(2000)
            file.write(b"middle")
            file.seek(0)
            assert file.read(12) == b"beginning" + OLD[9:12]
            expected = b"beginning" + OLD[9:2000] + b"middle" + OLD[2006:]
    if writes_anywhere(served):
        assert content(served) == expected
        return
    assert content(served) == b"beginning" + OLD[9:]
    file = client.open("file", "r+")
    with pytest.raises(OSError, match="only as a whole"):
        client._request(paramiko.sftp.CMD_WRITE, file.handle, paramiko.sftp.int64(1000), b"middle")
    with pytest.raises(OSError, match="only as a whole"):
        client._request(paramiko.sftp.CMD_CLOSE, file.handle)
    with pytest.raises(OSError, match="only as a whole"):
        client.open("file", "a")
    assert content(served) == b"beginning" + OLD[9:]


@pytest.mark.parametrize("mode", ["r+", "a+"])
def test_an_empty_file_is_read_and_filled_on_any_storage(
    served: SshServed, client: paramiko.SFTPClient, mode: str
) -> None:
    (served.data / "shared/file").write_bytes(b"")
    with client.open("file", mode) as file:
        assert file.read() == b""
        file.write(NEW)
    assert content(served) == NEW


def test_what_somebody_else_puts_there_meanwhile_is_kept(served: SshServed, client: paramiko.SFTPClient) -> None:
    """The rest of the old content is not set below a beginning that was meant for it."""
    file = client.open("file", "r+")
    client._request(paramiko.sftp.CMD_WRITE, file.handle, paramiko.sftp.int64(0), b"beginning")
    with paramiko_sftp(served, served.login("shared", WRITE)) as other, other.open("file", "w") as theirs:
        theirs.write(NEW)
    with pytest.raises(OSError, match="Somebody else has changed the file meanwhile"):
        client._request(paramiko.sftp.CMD_CLOSE, file.handle)
    assert content(served) == NEW
    until(lambda: not served.writers)


def test_a_change_that_is_cut_off_leaves_nothing(served: SshServed, client: paramiko.SFTPClient) -> None:
    file = client.open("file", "r+")
    for offset in range(0, 2 << 20, 32_768):
        client._request(paramiko.sftp.CMD_WRITE, file.handle, paramiko.sftp.int64(offset), b"x" * 32_768)
    client.get_channel().get_transport().close()
    until(lambda: not served.writers)
    assert content(served) == OLD
    assert served.temporaries() == [], "there is a file, so nobody could go on with it"
