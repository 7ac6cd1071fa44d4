"""Sessions of users whose keys something else keeps, while that cannot be asked."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import paramiko
import pytest

from gateway import authorized_keys, key_files
from gateway.access import Grant
from gateway.authorized_keys import AuthorizedKeys

from .clients import until
from .served import SshServed, logged, public_key

GONE = (EOFError, OSError, paramiko.SSHException)


def log_in(connection: paramiko.Transport, served: SshServed) -> paramiko.SFTPClient:
    """Log alice in with a key that is not hers in the state."""
    connection.connect(username="alice", pkey=paramiko.Ed25519Key.from_private_key_file(str(served.guest)))
    client = paramiko.SFTPClient.from_transport(connection)
    assert client is not None
    return client


def test_a_session_goes_on_while_its_file_of_keys_cannot_be_read_and_ends_with_its_key(
    served: SshServed, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: list[Any]
) -> None:
    file, released, read = tmp_path / "alice", threading.Event(), key_files._read
    keys = AuthorizedKeys(tmp_path / "{user}")
    monkeypatch.setattr(served.access, "_authorized_keys", keys)
    monkeypatch.setattr(key_files, "FILE_TIME", 0.2)
    file.write_text(public_key(served.guest).line)
    with paramiko.Transport(("127.0.0.1", served.ssh_port)) as connection:
        client = log_in(connection, served)
        uploaded = client.open(f"home/{folder.name}/file", "w")
        monkeypatch.setattr(key_files, "_read", lambda *given: (released.wait(60), read(*given))[1])
        until(lambda: logged(log, "a file of authorized keys is not used"))
        uploaded.write(b"content")
        uploaded.close()
        assert (folder / "file").read_bytes() == b"content"
        file.write_text("")
        released.set()
        until(lambda: not connection.is_active(), 5)
        with pytest.raises(GONE):
            client.listdir("home")
    keys.close()
    assert not logged(log, "transfer.unwatched")


def test_a_session_ends_when_the_program_is_asked_again_and_no_longer_names_its_key(
    served: SshServed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: list[Any]
) -> None:
    """README says how long that is: a minute."""
    assert authorized_keys.COMMAND_AGAIN == 60
    named, asked = tmp_path / "named", tmp_path / "asked"
    script, renew, looks = f"echo >> {asked}; cat {named}", served.access.renew, []

    async def renewed(grant: Grant) -> Grant:
        looks.append(grant)
        return await renew(grant)

    keys = AuthorizedKeys(command=("/bin/sh", "-c", script, "keys-of", "{user}"))
    monkeypatch.setattr(served.access, "_authorized_keys", keys)
    named.write_text(public_key(served.guest).line)
    with paramiko.Transport(("127.0.0.1", served.ssh_port)) as connection:
        client = log_in(connection, served)
        named.write_text("")
        asked.unlink()
        monkeypatch.setattr(served.access, "renew", renewed)
        until(lambda: looks)
        client.listdir("home")
        assert not asked.exists(), "the minute has not passed"
        monkeypatch.setattr(authorized_keys, "COMMAND_AGAIN", 0.0)
        until(lambda: not connection.is_active(), 5)
    keys.close()
