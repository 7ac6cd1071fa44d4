"""The file of host keys is read as OpenSSH reads it: hashed names, ports, patterns, several keys, revoked ones."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from sftp_servers import make_key

from backends.errors import Unavailable
from backends.sftp.known_hosts import HostKeys, fingerprint, host_keys


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return public keys, as in the file, by kinds; there are two of the first."""
    place = tmp_path_factory.mktemp("keys")
    made = {name: make_key(place / name, name.partition("-")[0]) for name in ("ed25519", "ed25519-new", "ecdsa", "rsa")}
    return {name: " ".join((place / f"{name}.pub").read_text().split()[:2]) for name in made}


def known(tmp_path: Path, text: str, host: str = "nas.lab.example", port: int = 22) -> HostKeys:
    file = tmp_path / "known_hosts"
    file.write_text(text)
    return host_keys(file, host, port)


@pytest.mark.parametrize(
    ("names", "host", "port"),
    [
        ("nas.lab.example", "nas.lab.example", 22),
        ("NAS.Lab.Example,192.0.2.1", "nas.lab.example", 22),
        ("other,192.0.2.1", "192.0.2.1", 22),
        ("*.lab.example", "nas.lab.example", 22),
        ("na?.lab.example", "nas.lab.example", 22),
        ("[nas.lab.example]:2222", "nas.lab.example", 2222),
        ("[*.lab.example]:2222", "nas.lab.example", 2222),
        ("[2001:db8::1]:2222", "2001:db8::1", 2222),
        ("2001:db8::1", "2001:db8::1", 22),
    ],
)
def test_a_name_that_is_meant_is_found(tmp_path: Path, keys: dict[str, str], names: str, host: str, port: int) -> None:
    """In any form that sshd(8) describes, also when ssh-keygen has hashed it."""
    assert known(tmp_path, f"{names} {keys['ed25519']} a comment\n", host, port).kinds == ("ssh-ed25519",)
    if not set("*?") & set(names):
        subprocess.run(["ssh-keygen", "-q", "-H", "-f", tmp_path / "known_hosts"], check=True, capture_output=True)
        assert host not in (tmp_path / "known_hosts").read_text()
        assert len(host_keys(tmp_path / "known_hosts", host, port).keys) == 1


@pytest.mark.parametrize(
    ("names", "host", "port"),
    [
        ("nas.lab.example", "nas.lab.example", 2222),
        ("[nas.lab.example]:2222", "nas.lab.example", 22),
        ("[nas.lab.example]:2222", "nas.lab.example", 2223),
        ("*.lab.example,!nas.lab.example", "nas.lab.example", 22),
        ("!nas.lab.example,*.lab.example", "nas.lab.example", 22),
        ("lab.example", "nas.lab.example", 22),
        ("[!x]as.lab.example", "nas.lab.example", 22),
        ("|1|bm90IGEgc2FsdA==", "nas.lab.example", 22),
        ("|1|%|%", "nas.lab.example", 22),
    ],
)
def test_another_name_is_not(tmp_path: Path, keys: dict[str, str], names: str, host: str, port: int) -> None:
    assert known(tmp_path, f"{names} {keys['ed25519']}\n", host, port) == HostKeys((), frozenset(), frozenset())


def test_lines_that_say_nothing_are_passed_over(tmp_path: Path, keys: dict[str, str]) -> None:
    """Comments, half lines and what is no key do not hide what comes after them."""
    junk = "# nas.lab.example ssh-ed25519 AAAA\n\nnas.lab.example\nnas.lab.example ssh-ed25519 %%%\n\xff\n"
    assert known(tmp_path, f"{junk}nas.lab.example {keys['rsa']}\n").algorithms == ["rsa-sha2-512", "rsa-sha2-256"]


def test_all_keys_of_a_host_count(tmp_path: Path, keys: dict[str, str]) -> None:
    """While a key is exchanged there are two of a kind."""
    found = known(tmp_path, "".join(f"nas.lab.example {key}\n" for key in keys.values()))
    assert (found.kinds, len(found.keys)) == (("ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa"), 4)


def test_a_revoked_key_and_an_authority_are_no_host_keys(tmp_path: Path, keys: dict[str, str]) -> None:
    found = known(
        tmp_path,
        f"@revoked * {keys['ed25519']}\n@cert-authority *.lab.example {keys['rsa']}\nnas.lab.example {keys['ecdsa']}\n",
    )
    assert (found.kinds, len(found.keys), len(found.revoked)) == (("ecdsa-sha2-nistp256",), 1, 1)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"known_hosts_file .*missing: No such file"):
        host_keys(tmp_path / "missing", "nas.lab.example", 22)


def test_a_fingerprint_is_that_of_ssh_keygen(tmp_path: Path) -> None:
    key = make_key(tmp_path / "key")
    shown = subprocess.run(["ssh-keygen", "-l", "-f", key], capture_output=True, text=True, check=True).stdout
    (found,) = known(tmp_path, "nas.lab.example " + key.with_suffix(".pub").read_text()).keys
    assert fingerprint(found) == shown.split()[1]
