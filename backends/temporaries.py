"""Temporaries `.ocm-gateway-<random>`: their names, the sign that their writer lives, and their removal.

On somebody else's server they have names `.ocm-guest-<random>`: a gateway there refuses those that are its own.

The sign of life is an exclusive flock(2) on the file, held by its writer: the kernel drops it with the process,
however that ends, and several processes that share a root see each other's. A shared lock is enough to look for
it, which also works on a descriptor for reading (NFS wants one for writing under an exclusive lock).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import stat
import time
from collections.abc import Callable

from backends.linux import Descriptor
from backends.paths import StoragePath

PREFIX = b".ocm-gateway-"
GUEST_PREFIX = b".ocm-guest-"
_TOKEN = re.compile(rb"[0-9a-f]{32}")

# Met outside of a journal, a temporary could belong to a gateway on another machine whose locks do not reach us.
STALE_AFTER = 24 * 3600  # seconds since the last write

# Tells whether a parked temporary, by its token, is still to be resumed.
IsKept = Callable[[str], bool]


def nobody(_token: str) -> bool:
    """Keep nothing: whatever its writer has left is debris."""
    return False


def new_name(prefix: bytes = PREFIX) -> bytes:
    """Return the name of a new temporary, 128 bits of it random."""
    return prefix + secrets.token_hex(16).encode()


def name_of(token: str) -> bytes:
    """Return the name of the temporary that was parked under `token`."""
    return PREFIX + token.encode()


def token_of(name: bytes) -> str:
    """Return what makes the name of a temporary unlike every other."""
    return name[len(PREFIX) :].decode()


def is_hidden(name: bytes, prefix: bytes = PREFIX) -> bool:
    """Tell whether `name` is in the name space of temporaries, which nobody can list or address."""
    return name.startswith(prefix)


def is_temporary(name: bytes, prefix: bytes = PREFIX) -> bool:
    """Tell whether `name` has exactly the form that `new_name` gives, the only one that is ever swept."""
    return name.startswith(prefix) and _TOKEN.fullmatch(name, len(prefix)) is not None


def hides(path: StoragePath, prefix: bytes = PREFIX) -> bool:
    """Tell whether any component of `path` is in the name space of temporaries."""
    for name in path.parts:  # noqa: SIM110 -- half the time of any(), and every operation passes here
        if name.startswith(prefix):
            return True
    return False


def create_locked(directory: int, new_name: Callable[[], bytes], mode: int) -> tuple[Descriptor, bytes]:
    """Create a file under a new name and take its writer's lock; returns it, open for writing, and the name."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    while True:
        name = new_name()
        file = Descriptor(os.open(name, flags, mode, dir_fd=directory))
        kept = False
        try:
            # A sweep may come between the creation and the lock: then it holds the lock, or the name is gone.
            kept = lock(file) and os.fstat(file.fileno()).st_nlink > 0
        finally:
            if not kept:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=directory)
                file.close()
        if kept:
            return file, name


def lock(file: Descriptor) -> bool:
    """Take the writer's lock, held until the file is closed; False when another holds one."""
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def open_parked(directory: int, name: bytes) -> Descriptor | None:
    """Open a temporary that was parked, for its next writer, and take the lock; None when another has it."""
    file = Descriptor(os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory))
    if lock(file):
        return file
    file.close()
    return None


def open_dead(directory: int, name: bytes) -> Descriptor | None:
    """Open the file if no living writer holds it, and keep every writer out until it is closed."""
    file = Descriptor(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory))
    try:
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            fcntl.flock(file.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
            return file
    except BlockingIOError:
        pass
    file.close()
    return None


def reap(directory: int, name: bytes, unchanged_for: float = 0, is_kept: IsKept = nobody) -> bool:
    """Remove the temporary if its writer is dead, nothing was written for so many seconds, and nobody keeps it to be
    resumed; tells whether."""
    file = open_dead(directory, name)
    if file is None:
        return False
    with file:
        if unchanged_for and time.time() - os.fstat(file.fileno()).st_mtime < unchanged_for:
            return False
        if is_kept(token_of(name)):  # asked while writers are kept out, so that the answer stays true
            return False
        os.unlink(name, dir_fd=directory)
    return True


def clear(directory: int, is_kept: IsKept) -> bool:
    """Remove what is parked from a directory that holds nothing else, and tell whether it is empty now.

    A temporary that nobody keeps may be the living one of another machine, so only a stale one goes.
    """
    names = []
    with os.scandir(directory) as entries:
        for entry in entries:
            name = os.fsencode(entry.name)
            if not is_temporary(name):
                return False
            names.append(name)
    with contextlib.suppress(FileNotFoundError):  # another was faster
        return all(reap(directory, name, 0 if is_kept(token_of(name)) else STALE_AFTER) for name in names)
    return True


def sweep(directory: int, is_kept: IsKept = nobody) -> int:
    """Remove the temporaries of dead writers from one directory, durably; returns how many."""
    swept = 0
    for name in map(os.fsencode, os.listdir(directory)):
        with contextlib.suppress(FileNotFoundError):  # another sweep was faster
            swept += is_temporary(name) and reap(directory, name, is_kept=is_kept)
    if swept:
        os.fsync(directory)
    return swept
