"""Whose new files and directories are, and who may do what with them; what exists already is never touched.

A setgid directory gives its group to what is made in it, and a default ACL its permissions: both go before what is
said here, as they were said for that directory (inode(7), acl(5)).
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from dataclasses import dataclass

from backends.errors import PermissionDenied
from backends.linux import Descriptor

FILE_MODE = 0o666
DIRECTORY_MODE = 0o777

_DEFAULT_ACL = "system.posix_acl_default"  # xattr(7), acl(5)


@dataclass(frozen=True, slots=True)
class Owner:
    """An account that new files are given to."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class NewFiles:
    """How files and directories are made; without a `umask` of its own that of the process holds."""

    owner: Owner | None = None  # None: whoever makes them
    umask: int | None = None

    def needed(self) -> tuple[str, ...]:
        """Return the capabilities (capabilities(7)) without which this process cannot work with what it gives away."""
        if self.owner is None:
            return ()
        if self.owner.uid == os.geteuid():
            return () if self.owner.gid in (os.getegid(), *os.getgroups()) else ("CAP_CHOWN",)
        # To give; to work below folders that are another's; to set times there, and to rename in sticky ones.
        working = ("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER")
        # Else a folder that is given the permissions of `umask` loses the setgid bit of a group that is not ours.
        return working if self.umask is None else (*working, "CAP_FSETID")

    def file_mode(self, directory: Descriptor) -> int:
        """Return the mode with which to create a file in `directory`."""
        return self._mode(FILE_MODE, directory)

    def settle(self, made: Descriptor, directory: Descriptor, mode: int = FILE_MODE) -> None:
        """Give the file that was just made in `directory` its permissions and its owner; raises OSError.

        In this order: with the owner goes the right to change the permissions. Raises PermissionDenied where the
        storage lets nobody give files away.
        """
        if self.umask is None and self.owner is None:
            return
        status = os.fstat(made.fileno())
        if self.umask is not None and not _has_default_acl(directory):
            wanted = mode & ~self.umask | status.st_mode & stat.S_ISGID
            if wanted != stat.S_IMODE(status.st_mode):
                os.fchmod(made.fileno(), wanted)
        if self.owner is not None:
            inherits = os.fstat(directory.fileno()).st_mode & stat.S_ISGID
            _give(made, self.owner.uid, status.st_gid if inherits else self.owner.gid)

    def make_directory(self, parent: Descriptor, name: bytes) -> None:
        """Make a directory in `parent`; raises OSError, and PermissionDenied as `settle`."""
        os.mkdir(name, self._mode(DIRECTORY_MODE, parent), dir_fd=parent.fileno())
        if self.owner is None and (self.umask is None or _has_default_acl(parent)):
            return
        try:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
            with Descriptor(os.open(name, flags, dir_fd=parent.fileno())) as made:
                self._require_new(made)
                self.settle(made, parent, DIRECTORY_MODE)
                os.fsync(made.fileno())
        except FileExistsError:  # by `_require_new` alone: this is another program's
            raise
        except BaseException:
            with contextlib.suppress(OSError):
                os.rmdir(name, dir_fd=parent.fileno())
            raise

    def _require_new(self, made: Descriptor) -> None:
        """Refuse to give away a directory that another program has put into the place of the new one."""
        if self.owner is not None and (os.fstat(made.fileno()).st_uid != os.geteuid() or os.listdir(made.fileno())):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))

    def _mode(self, full: int, directory: Descriptor) -> int:
        # A default ACL replaces the umask, and the mode of the call would narrow it.
        return full if self.umask is None or _has_default_acl(directory) else full & ~self.umask


BY_THE_KERNEL = NewFiles()  # the service's, less the umask of the process


def _has_default_acl(directory: Descriptor) -> bool:
    try:
        return bool(os.getxattr(directory.fileno(), _DEFAULT_ACL))
    except OSError:  # there is none, or this file system has no ACLs
        return False


def _give(made: Descriptor, uid: int, gid: int) -> None:
    try:
        os.fchown(made.fileno(), uid, gid)
    except PermissionError as error:
        raise PermissionDenied(f"the storage does not let the service give a new file to {uid}:{gid}") from error
