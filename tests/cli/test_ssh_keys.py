"""`user key`, and what `keys list` says of the SSH door: what is taken, what is noted, and what is never shown."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from parts import NOW
from sites import Site
from ssh_lines import new_key

from gateway import user_keys as module
from gateway.admin.ssh_commands import SSHCommands
from gateway.host_keys import HostKeys
from gateway.store import events

from .served import PASSWORD, Served


@pytest.fixture
def name(served: Served, request: pytest.FixtureRequest) -> str:
    """A user of this test's own."""
    name = f"u{abs(hash(request.node.nodeid)) % 10**9}"
    served.json("user", "add", name, "--password-file", "-", stdin=PASSWORD)
    return name


def add(served: Served, name: str, content: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = served.json("user", "key", "add", name, "--key-file", "-", stdin=content)
    return rows


def noted(served: Served, name: str) -> list[tuple[str, str, str]]:
    found = served.store.read_sync(lambda tx: events.about(tx, name))
    return [(one.actor, one.action, one.detail["fingerprint"]) for one in found if one.action.startswith("user.key")]


def test_a_keys_life(served: Served, name: str, tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-N", "", "-C", "marie@laptop", "-f", str(tmp_path / "key")], check=True)
    file = tmp_path / "key.pub"
    fingerprint = subprocess.run(
        ["ssh-keygen", "-lf", str(file)], check=True, capture_output=True, text=True
    ).stdout.split()[1]
    done = served.cli("user", "key", "add", name, "--key-file", str(file))
    assert (done.exit_code, done.stdout.startswith(f"{name} can log in with {fingerprint} (")) == (0, True)
    (row,) = served.json("user", "key", "list", name)
    assert row == {
        "fingerprint": fingerprint,
        "type": row["type"],
        "comment": "marie@laptop",
        "created": NOW,
        "key": file.read_text().rpartition(" ")[0],
    }
    assert fingerprint in served.cli("user", "key", "list", name).stdout
    assert served.cli("user", "key", "remove", name, fingerprint).exit_code == 0
    assert served.cli("user", "key", "list", name).stdout == f"No key was added for {name}.\n"
    assert "(NO_SUCH_KEY)" in served.cli("user", "key", "remove", name, fingerprint).stderr
    assert noted(served, name) == [
        ("(operator)", "user.key.add", fingerprint),
        ("(operator)", "user.key.remove", fingerprint),
    ]


def test_several_keys_come_in_one_file_and_each_counts_once(served: Served, name: str) -> None:
    one, two = new_key(), new_key()
    content = f"# mine\n\n{one.line} first\nrestrict {two.line} second \x1b[31m\n{one.line} again\n"
    first = add(served, name, content)
    assert [(row["key"], row["comment"]) for row in first] == [(one.line, "first"), (two.line, "second [31m")]
    assert add(served, name, content) == first, "it is safe to repeat the command"
    assert len(noted(served, name)) == 2


CERTIFICATE = "ssh-ed25519-cert-v01@openssh.com"
REFUSED = {
    "nothing": ("", "INVALID_SSH_KEY"),
    "only a comment": ("# my keys\n", "INVALID_SSH_KEY"),
    "a line that is no key": ("{key}\nhello\n", "INVALID_SSH_KEY"),
    "a key that is cut": ("{cut}", "INVALID_SSH_KEY"),
    "a certificate": (f"{CERTIFICATE} AAAAIHNzaC1lZDI1NTE5LWNlcnQtdjAxQG9wZW5zc2guY29t", "SSH_KEY_TYPE_NOT_ACCEPTED"),
    "an authority": ("cert-authority {key}", "SSH_KEY_TYPE_NOT_ACCEPTED"),
    "a key for some hosts": ('{key}\nfrom="10.0.0.0/8" {key}\n', "SSH_KEY_RESTRICTED"),
    "too much": ("#" * 300_000, "longer than"),
    "no text": (b"\xff\xfe", "not text in UTF-8"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_unless_every_line_can_be_used_none_is(served: Served, name: str, case: str) -> None:
    content, code = REFUSED[case]
    key = new_key()
    if isinstance(content, str):
        content = content.format(key=key.line, cut=key.line[:-8])
    done = served.cli("user", "key", "add", name, "--key-file", "-", stdin=content)
    assert (done.exit_code in (1, 2), done.stdout, code in done.stderr) == (True, "", True), done.stderr
    assert served.json("user", "key", "list", name) == []


def test_a_private_key_goes_no_further_than_the_command_line(
    served: Served, name: str, tmp_path: Path, log: list[Any]
) -> None:
    subprocess.run(["ssh-keygen", "-q", "-N", "", "-f", str(tmp_path / "key")], check=True)
    log.clear()
    done = served.cli("user", "key", "add", name, "--key-file", str(tmp_path / "key"))
    assert (done.exit_code, "named .pub" in done.stderr) == (1, True)
    assert log == [], "the gateway was not asked"


def test_a_user_has_so_many_keys_and_no_more(served: Served, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEYS_MAX", 3)
    lines = [new_key().line for _ in range(4)]
    add(served, name, "\n".join(lines[:2]))
    done = served.cli("user", "key", "add", name, "--key-file", "-", stdin="\n".join(lines[2:]))
    assert "(TOO_MANY_KEYS)" in done.stderr
    assert len(add(served, name, "\n".join(lines[1:3]))) == 2
    assert len(served.json("user", "key", "list", name)) == 3


@pytest.mark.parametrize("command", [("add", "--key-file", "-"), ("list",), ("remove", "SHA256:x")])
def test_there_are_no_keys_of_nobody(served: Served, command: tuple[str, ...]) -> None:
    done = served.cli("user", "key", command[0], "nobody", *command[1:], stdin=new_key().line)
    assert (done.exit_code, "(NO_SUCH_USER)" in done.stderr) == (1, True)


def test_who_logs_in_by_a_key_that_is_taken_away_is_shut_out_at_once(served: Served, name: str) -> None:
    """In this process; in others within the life of a Grant."""
    key = new_key()
    add(served, name, key.line)
    access = served.commands._access
    grant = served.run(access.by_key(name, key))
    assert access.is_fresh(grant)
    served.cli("user", "key", "remove", name, key.fingerprint)
    assert not access.is_fresh(grant)


# --- the door's own -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def host_keys(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostKeys]:
    keys = HostKeys(tmp_path_factory.mktemp("keys"))
    before = served.table["keys.hosts"]
    served.table["keys.hosts"] = SSHCommands(None, None, keys, "cloud.example.org").table["keys.hosts"]  # type: ignore[arg-type]
    yield keys
    served.table["keys.hosts"] = before


def test_the_doors_keys_are_listed_with_what_dns_may_say_of_them(served: Served, host_keys: HostKeys) -> None:
    rows = {row["kid"]: row for row in served.json("keys", "list")}
    printed = served.cli("keys", "list").stdout.splitlines()
    for record in host_keys.records("cloud.example.org"):
        row = rows[record.name]
        assert (row["fingerprint"], row["sshfp"], row["key"]) == (record.key.fingerprint, record.sshfp, record.key.line)
        assert f"{record.name}: {record.key.fingerprint}" in printed
        assert record.sshfp in printed
    assert "PRIVATE" not in json.dumps(list(rows.values()))


# --- as a whole -----------------------------------------------------------------------------------------------------


def test_a_gateway_keeps_its_keys_and_its_users_over_a_restart(tmp_path: Path) -> None:
    key = new_key()
    file = tmp_path / "key.pub"
    file.write_text(f"{key.line} marie@laptop\n")
    site = Site(tmp_path / "site", workers=2, has_ssh=True)

    def doors_keys() -> list[dict[str, Any]]:
        return [row for row in site.json("keys", "list") if "sshfp" in row]

    with site:
        site.add_user("alice", PASSWORD)
        added = site.json("user", "key", "add", "alice", "--key-file", str(file))
        known = doors_keys()
        assert [row["sshfp"].split()[:3] for row in known] == [["localhost", "IN", "SSHFP"]] * 3
        assert f"127.0.0.1:{site.ssh_port}" in site.log.read_text(), "where it listens is said at the start"
    with site:
        assert site.json("user", "key", "list", "alice") == added
        assert doors_keys() == known
