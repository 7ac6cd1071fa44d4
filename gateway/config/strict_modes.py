"""Who could put another file in the place of one that says who may log in: what StrictModes of sshd asks.

Unlike sshd's, the way may lead through folders such as /tmp, where nobody takes away or renames what is another's: of
each name on the way is asked whose it is. Where a path leads through a link, the folder that holds the link counts.
"""

from __future__ import annotations

import errno
import os
import pwd
import stat
from pathlib import Path

NOBODY_ELSE = stat.S_IWGRP | stat.S_IWOTH
ROOT = 0
LINKS_MAX = 40  # as in Linux (path_resolution(7))


def require_unshared(path: Path, account: str | None = None) -> None:
    """Make sure that only root, this process's account and `account` can change what is at an absolute path.

    Raises ValueError saying who else can, and what to do about it, and OSError where that cannot be seen.
    """
    here, ahead, links = "/", [*reversed(path.parts[1:])], 0
    _require(here, os.lstat(here), account)
    while ahead:
        there = os.path.join(here, ahead.pop())
        facts = os.lstat(there)
        _require(there, facts, account)
        if not stat.S_ISLNK(facts.st_mode):
            here = there
            continue
        links += 1
        if links > LINKS_MAX:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
        target = os.readlink(there)
        here = "/" if target.startswith("/") else here
        ahead += [name for name in reversed(target.split("/")) if name]


def _require(path: str, facts: os.stat_result, account: str | None) -> None:
    if facts.st_uid not in (ROOT, os.geteuid()) and facts.st_uid != _uid_of(account):
        raise ValueError(f"{path} belongs to uid {facts.st_uid}, who could put another in its place: chown root {path}")
    if stat.S_ISLNK(facts.st_mode) or (stat.S_ISDIR(facts.st_mode) and facts.st_mode & stat.S_ISVTX):
        return
    if facts.st_mode & NOBODY_ELSE:
        raise ValueError(f"others than its owner may write to {path}: chmod go-w {path}")


def _uid_of(account: str | None) -> int | None:
    try:
        return pwd.getpwnam(account).pw_uid if account else None
    except KeyError:
        return None
