"""The keys that clients of the SSH door know it by: OpenSSH reads them, and they never change."""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path

import pytest

from gateway import host_keys as module
from gateway.host_keys import FILES, HostKeys

HOST = "cloud.example.org"


def keygen(*arguments: str) -> str:
    return subprocess.run(["ssh-keygen", *arguments], check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory whose keys were made by several processes at once, as far as threads are that."""
    before = os.umask(0o022)
    directory = tmp_path_factory.mktemp("state") / "keys"
    found: list[tuple[bytes, ...]] = []
    starts = [threading.Thread(target=lambda: found.append(HostKeys(directory).private())) for _ in range(2)]
    for start in starts:
        start.start()
    for start in starts:
        start.join()
    os.umask(before)
    assert len(found) == 2
    assert len(set(found)) == 1, "whoever is first makes them for all"
    return directory


def test_the_files_are_private_and_openssh_reads_them(directory: Path) -> None:
    keys = HostKeys(directory)
    assert {path.name: path.stat().st_mode & 0o777 for path in directory.iterdir()} == dict.fromkeys(FILES, 0o600)
    for name, public, private in zip(FILES, keys.public(), keys.private(), strict=True):
        assert (directory / name).read_bytes() == private
        assert keygen("-y", "-f", str(directory / name)).split()[:2] == public.line.split()
    assert [key.words for key in keys.public()] == ["Ed25519, 256 bits", "ECDSA, 256 bits", "RSA, 3072 bits"]


def test_they_are_what_they_were_after_a_restart(directory: Path) -> None:
    assert HostKeys(directory).private() == HostKeys(directory).private()


def test_fingerprints_and_sshfp_are_those_that_ssh_keygen_prints(directory: Path, tmp_path: Path) -> None:
    for record in HostKeys(directory).records(HOST):
        public = tmp_path / f"{record.name}.pub"
        public.write_text(record.key.line + "\n")
        assert keygen("-l", "-f", str(public)).split()[1] == record.key.fingerprint
        assert record.sshfp in keygen("-r", HOST, "-f", str(public)).splitlines()
        assert record.created == int((directory / record.name).stat().st_mtime)


def test_a_file_that_holds_no_key_is_named_and_not_replaced(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FILES", {"ssh_host_ed25519": FILES["ssh_host_ed25519"]})
    (tmp_path / "keys").mkdir()
    file = tmp_path / "keys" / "ssh_host_ed25519"
    file.write_bytes((directory / "ssh_host_ed25519").read_bytes())
    file.chmod(0o600)
    keygen("-p", "-N", "a pass phrase", "-f", str(file))
    for content in (b"", b"rubbish", file.read_bytes()):
        file.write_bytes(content)
        with pytest.raises(OSError, match=str(file)):
            HostKeys(tmp_path / "keys")
        assert file.read_bytes() == content
