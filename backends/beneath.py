"""Opening paths so that no symbolic link, swapped in at any moment, leads out of the root or a bound of the path.

The kernel does it (openat2 with RESOLVE_BENEATH) where it can: a link that stays within is followed, one that leads
out, or is absolute, does not exist. Elsewhere each component is opened from the one before it with O_NOFOLLOW, and
no link exists at all. Mount points below the root are crossed: a NAS has them.
"""

from __future__ import annotations

import errno
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Callable

from backends import linux
from backends.linux import Abilities
from backends.paths import StoragePath

# A rename anywhere on the way makes the kernel give up with EAGAIN (openat2(2)); a busy tree needs a few turns.
_TURNS = 128


class Confinement(ABC):
    """One way to open a path beneath a root."""

    @abstractmethod
    def open(self, root: int, path: StoragePath, flags: int) -> int:
        """Open `path` beneath the descriptor `root` and return a descriptor.

        Raises OSError: ENOENT also where the way leads out of the root, ENOTDIR where it leads through a file.
        With O_PATH the result may be a link that must not be followed: look at its type.
        """

    def try_open(self, root: int, path: StoragePath, flags: int) -> int | None:
        """Open as `open` does if the caches hold the whole way and it stays on the root's mount, else return None."""
        return None


class KernelConfinement(Confinement):
    """openat2(2) with RESOLVE_BENEATH and without the links of /proc that lead anywhere."""

    _RESOLVE = linux.RESOLVE_BENEATH | linux.RESOLVE_NO_MAGICLINKS

    def open(self, root: int, path: StoragePath, flags: int) -> int:
        return _stepwise(root, path, flags, self._open)

    def try_open(self, root: int, path: StoragePath, flags: int) -> int | None:
        try:
            return _stepwise(root, path, flags, self._open_cached)
        except OSError as error:
            # EINVAL: a kernel before 5.12 does not know RESOLVE_CACHED
            if error.errno in (errno.EAGAIN, errno.EXDEV, errno.EINVAL):
                return None
            raise

    def _open(self, root: int, raw: bytes, flags: int, follow: bool) -> int:
        resolve = self._RESOLVE if follow else self._RESOLVE | linux.RESOLVE_NO_SYMLINKS
        for _ in range(_TURNS):
            try:
                return linux.openat2(root, raw, flags, resolve)
            except OSError as error:
                if error.errno == errno.EXDEV:  # an escape; crossing a mount is no error without RESOLVE_NO_XDEV
                    raise _absent() from error
                if error.errno != errno.EAGAIN:
                    raise
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    def _open_cached(self, root: int, raw: bytes, flags: int, follow: bool) -> int:
        resolve = self._RESOLVE | linux.RESOLVE_CACHED | linux.RESOLVE_NO_XDEV
        return linux.openat2(root, raw, flags, resolve if follow else resolve | linux.RESOLVE_NO_SYMLINKS)


def _stepwise(root: int, path: StoragePath, flags: int, open_beneath: Callable[[int, bytes, int, bool], int]) -> int:
    """Open the pieces of `path` each beneath the one before it, so that no link leads out of any of its bounds."""
    *steps, (name, follow) = path.steps() if path.parts else ((b".", True),)
    directory = root
    try:
        for step, through in steps:
            inner = open_beneath(directory, step, os.O_PATH | os.O_DIRECTORY, through)
            if directory != root:
                os.close(directory)
            directory = inner
        return open_beneath(directory, name, flags, follow)
    finally:
        if directory != root:
            os.close(directory)


class ComponentWalk(Confinement):
    """One open per component, each from its parent's descriptor, none through a link."""

    def open(self, root: int, path: StoragePath, flags: int) -> int:
        if path.is_root:
            return os.open(b".", flags, dir_fd=root)
        directory = root
        try:
            for name in path.parts[:-1]:
                inner = _open_child(directory, name, os.O_PATH | os.O_DIRECTORY)
                if directory != root:
                    os.close(directory)
                directory = inner
            return _open_child(directory, path.name, flags)
        finally:
            if directory != root:
                os.close(directory)


def _open_child(directory: int, name: bytes, flags: int) -> int:
    try:
        return os.open(name, flags | os.O_NOFOLLOW, dir_fd=directory)
    except NotADirectoryError as error:  # O_DIRECTORY says this of links too, but a link does not exist
        if stat.S_ISLNK(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
            raise _absent() from error
        raise


def _absent() -> OSError:
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))


def confinement(abilities: Abilities) -> Confinement:
    """Return the strongest way that the kernel allows."""
    return KernelConfinement() if abilities.openat2 else ComponentWalk()
