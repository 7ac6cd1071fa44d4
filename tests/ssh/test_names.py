"""Names that are changed: onto themselves, and while this session has them open."""

from __future__ import annotations

from pathlib import Path

import pytest
from paramiko.sftp import CMD_CLOSE

from .clients import paramiko_sftp
from .served import SshServed


def test_what_has_a_name_already_keeps_it(served: SshServed, folder: Path) -> None:
    """As rename(2) has it; RENAME of the draft replaces nothing, and so refuses."""
    (folder / "file").write_bytes(b"content")
    (folder / "full/inside").mkdir(parents=True)
    here = f"/home/{folder.name}"
    with paramiko_sftp(served) as client:
        for name in ("file", "full", "full/inside"):
            client.posix_rename(f"{here}/{name}", f"{here}/./{name}")
            with pytest.raises(OSError):
                client.rename(f"{here}/{name}", f"{here}/{name}")
        with pytest.raises(FileNotFoundError):
            client.posix_rename(f"{here}/gone", f"{here}/gone")
        for root in ("/", "/home"):
            with pytest.raises(PermissionError):
                client.posix_rename(root, root)
    assert (folder / "file").read_bytes() == b"content"
    assert (folder / "full/inside").is_dir()


@pytest.mark.parametrize("change", ["rename", "posix_rename", "remove"])
def test_a_new_file_is_renamed_and_removed_when_it_is_closed(served: SshServed, folder: Path, change: str) -> None:
    here = f"/home/{folder.name}"
    words = (f"{here}/new",) if change == "remove" else (f"{here}/new", f"{here}/newer")
    with paramiko_sftp(served) as client:
        with client.open(f"{here}/new", "w") as file:
            file.write(b"content")
            file.flush()
            assert client.stat(f"{here}/new").st_size == 7
            with pytest.raises(OSError, match="close it first"):
                getattr(client, change)(*words)
        assert (folder / "new").read_bytes() == b"content", "and nothing is lost by that"
        getattr(client, change)(*words)
    assert [path.name for path in folder.iterdir()] == ([] if change == "remove" else ["newer"])


@pytest.mark.parametrize("mode", ["w", "r+"])
@pytest.mark.parametrize("change", ["rename", "remove"])
def test_what_was_opened_by_a_name_is_stored_under_that_or_refused(
    served: SshServed, folder: Path, change: str, mode: str
) -> None:
    here = f"/home/{folder.name}"
    (folder / "old").write_bytes(b"old")
    words = (f"{here}/old",) if change == "remove" else (f"{here}/old", f"{here}/older")
    expected = {} if change == "remove" else {"older": b"old"}
    with paramiko_sftp(served) as client:
        file = client.open(f"{here}/old", mode)
        file.write(b"content")
        file.flush()
        getattr(client, change)(*words)
        if mode == "w":
            client._request(CMD_CLOSE, file.handle)
            expected["old"] = b"content"
        else:
            with pytest.raises(OSError):
                client._request(CMD_CLOSE, file.handle)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == expected
