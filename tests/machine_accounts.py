"""Accounts of this machine that tests make, and remove again."""

from __future__ import annotations

import grp
import pwd
import secrets
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from two_users import require_root

PATIENCE = 30.0  # seconds; another test, or the machine, may be changing accounts


@dataclass
class Accounts:
    """Two accounts and a group of both, made for some tests."""

    anna: str
    bert: str
    group: str

    def ids(self, name: str) -> tuple[int, int]:
        entry = pwd.getpwnam(name)
        return entry.pw_uid, entry.pw_gid

    @property
    def group_id(self) -> int:
        return grp.getgrnam(self.group).gr_gid


def change_accounts(*command: str) -> None:
    """Run useradd or one of its family, again while somebody else holds their lock."""
    deadline = time.monotonic() + PATIENCE
    while (done := subprocess.run(command, capture_output=True, text=True)).returncode != 0:
        assert "lock" in done.stderr, f"{command}: {done.stderr}"
        assert time.monotonic() < deadline, done.stderr
        time.sleep(0.2)


@contextmanager
def two_accounts() -> Iterator[Accounts]:
    require_root()
    names = [f"ocm-test-{secrets.token_hex(4)}" for _ in range(3)]
    made = Accounts(*names)
    change_accounts("groupadd", made.group)
    try:
        for name in (made.anna, made.bert):
            change_accounts("useradd", "--no-create-home", "--user-group", "--groups", made.group, name)
        yield made
    finally:
        for name in (made.anna, made.bert):
            if name in {entry.pw_name for entry in pwd.getpwall()}:
                change_accounts("userdel", name)
        change_accounts("groupdel", made.group)
