"""Two users with accounts that this machine does not know, and a tree in which each works with his own rights."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from backends.accounts import Account, Accounts
from backends.credential_threads import CredentialThreads
from backends.credentials import Credentials, acting_with
from backends.local import LocalBackend
from backends.mapped import MappedBackend
from backends.ownership import NewFiles

LAB = 71_000  # a group of both

ALICE = Account(70_001, 70_001, (70_001, LAB))
BOB = Account(70_002, 70_002, (70_002, LAB, 70_003))
PEOPLE = {"alice": ALICE, "bob": BOB}
UMASK_027 = NewFiles(umask=0o027)


def require_root() -> None:
    """Fail, rather than prove nothing, where the tests cannot act as two accounts."""
    assert os.geteuid() == 0, "this test acts as two accounts of the machine: run it as root"


def mapped(
    root: Path,
    journals: Path,
    look_up: Callable[[str], Account | None] = PEOPLE.get,
    new_files: NewFiles = UMASK_027,
    *,
    as_root: bool = True,
    **settings: Any,
) -> MappedBackend:
    """Return the tree at `root`, in which `look_up` says who is who."""
    if as_root:
        require_root()
    threads = CredentialThreads("mapped")
    service = LocalBackend(
        root, journals, new_files=new_files, as_service=partial(acting_with, threads.own), **settings
    )
    return MappedBackend(service, Accounts(look_up=look_up), threads)


def credentials(account: Account) -> Credentials:
    return Credentials(account.uid, account.gid, tuple(sorted(account.groups)))


def owner(path: Path) -> tuple[int, int]:
    """Return uid and gid of what is at `path` itself."""
    status = path.lstat()
    return status.st_uid, status.st_gid


def permissions(path: Path) -> int:
    return path.lstat().st_mode & 0o7777


def belongs_to(account: Account) -> tuple[int, int]:
    return account.uid, account.gid


def homes(root: Path) -> None:
    """Make a folder for each of the two that the other cannot enter, and one for both that gives its group on."""
    for name, account in PEOPLE.items():
        home = root / name
        home.mkdir(mode=0o700)
        os.chown(home, account.uid, account.gid)
    lab = root / "lab"
    lab.mkdir()
    os.chown(lab, 0, LAB)
    lab.chmod(0o2770)


def without_account() -> str:
    """Return a name that nobody has on this machine."""
    taken = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in (f"nobody-of-that-name-{number}" for number in range(100)) if name not in taken)
