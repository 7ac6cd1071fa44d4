"""The section `ssh` and `listen.ssh`: what may stand there, and what others are told of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_config import directory, loaded, only

from gateway.config import Address, SSHConfig

__all__ = ["directory"]


def test_without_a_door_nothing_is_said_of_one(directory: Path) -> None:
    config = loaded(directory, listen={"ssh": None})
    assert (config.listen.ssh, config.ssh_public, config.ssh) == (None, None, SSHConfig())


@pytest.mark.parametrize(
    ("public", "expected"),
    [
        (None, "cloud.example.org:2022"),
        ("SSH.example.org:22", "ssh.example.org:22"),
        ("[2001:DB8::1]:22", "[2001:db8::1]:22"),
        ("192.0.2.1:2222", "192.0.2.1:2222"),
    ],
)
def test_others_are_told_a_host_and_a_port(directory: Path, public: str | None, expected: str) -> None:
    config = loaded(directory, listen={"ssh": "0.0.0.0:2022"}, ssh={"public": public})
    assert config.listen.ssh == Address("0.0.0.0", 2022)
    assert str(config.ssh_public) == expected


def test_every_key_is_understood(directory: Path) -> None:
    program = directory / "keys-of"
    program.touch(0o755)
    counts = {"connections": 7, "connections_per_address": 6, "handles": 5, "in_flight": 2**20}
    times = {"login_time": 4, "idle_time": 3.5, "keepalive": 2}
    kept = {"authorized_keys_file": "keys/{user}", "authorized_keys_command": ["keys-of", "-u", "{user}"]}
    config = loaded(directory, ssh={"passwords": True} | counts | times | kept)
    assert config.ssh.model_dump(exclude={"public"}) == {
        "passwords": True,
        **counts,
        **times,
        "authorized_keys_file": directory / "keys/{user}",
        "authorized_keys_command": (str(program), "-u", "{user}"),
    }


MISTAKES: list[tuple[str, Any, str]] = [
    ("public", "cloud.example.org", "HOST:PORT"),
    ("public", "cloud.example.org:0", "HOST:PORT"),
    ("public", "cloud.example.org:65536", "HOST:PORT"),
    ("public", "alice@cloud.example.org:22", "HOST:PORT"),
    ("public", "ssh://cloud.example.org:22", "HOST:PORT"),
    ("public", 22, "HOST:PORT"),
    ("passwords", "perhaps", "true or false"),
    ("authorized_keys_file", "/etc/keys", "{user}"),
    ("authorized_keys_file", "/etc/{user}/{host}", "{user}"),
    ("authorized_keys_file", 7, "{user}"),
    ("authorized_keys_command", "echo {user}", "a list"),
    ("authorized_keys_command", [], "a list"),
    ("authorized_keys_command", ["", "{user}"], "a list"),
    ("authorized_keys_command", ["{user}"], "a list"),
    ("authorized_keys_command", ["/bin/sh", 7, "{user}"], "a list"),
    ("authorized_keys_command", ["/bin/sh", "\0", "{user}"], "a list"),
    ("authorized_keys_command", ["/no/such", "{user}"], "a list"),
    ("authorized_keys_command", ["/etc/passwd", "{user}"], "a list"),
    ("connections", 0, "from 1 to"),
    ("connections_per_address", True, "from 1 to"),
    ("handles", 2.5, "from 1 to"),
    ("in_flight", 65_535, "bytes from"),
    ("login_time", 0, "seconds"),
    ("idle_time", -1, "seconds"),
    ("keepalive", "30", "seconds"),
]


@pytest.mark.parametrize(("key", "value", "allowed"), MISTAKES)
def test_a_mistake_is_reported_where_it_stands(directory: Path, key: str, value: Any, allowed: str) -> None:
    mistake = only(directory, ssh={key: value})
    assert mistake.path == f"ssh.{key}"
    assert allowed in mistake.allowed


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda program: program.chmod(0o775), "others than its owner may write to {program}: chmod go-w {program}"),
        (
            lambda program: program.parent.chmod(0o777),
            "others than its owner may write to {program.parent}: chmod go-w",
        ),
        (lambda program: os.chown(program, 60_001, -1), "{program} belongs to uid 60001"),
    ],
)
def test_a_program_that_others_may_change_or_replace_is_refused(
    directory: Path, change: Callable[[Path], object], found: str
) -> None:
    program = directory / "bin/keys-of"
    program.parent.mkdir(0o755)
    program.touch(0o755)
    config = {"authorized_keys_command": [str(program), "{user}"]}
    assert loaded(directory, ssh=config).ssh.authorized_keys_command == (str(program), "{user}")
    change(program)
    assert found.format(program=program) in (only(directory, ssh=config).found or "")
