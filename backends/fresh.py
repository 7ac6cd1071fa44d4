"""A fresh file in a directory: without a name where the file system can, else under a hidden one, until it is named.

    new name     linkat from the unnamed file straight onto it, which fails where the name is taken
    replace      a hidden link for a moment, then rename over the target

Source: open(2), O_TMPFILE; a link of an unnamed file cannot replace, only rename can.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from backends import temporaries
from backends.errors import InUse, NothingParked
from backends.journal import Journal
from backends.linux import Abilities, Descriptor
from backends.ownership import BY_THE_KERNEL, NewFiles
from backends.paths import StoragePath
from backends.renaming import rename_to_free_name

_ACL = "system.posix_acl_access"  # xattr(7), acl(5)
_OPENING = stat.S_IRUSR | stat.S_IWUSR

# How open(2) says that there is nothing to go on with, or something else; EACCES: a crash came between `resemble` and
# the name, and left what the service may not write
_NOT_PARKED = frozenset({errno.ENOENT, errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.EACCES})

# How a file system says that it has no unnamed files; EISDIR and ENOENT would come from kernels before 3.11
_NO_UNNAMED_FILES = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.ENOSYS})


class FreshFile:
    """Raises OSError; names are changed only while the directory is held `exclusively`."""

    def __init__(
        self,
        directory: Descriptor,
        path: StoragePath,
        journal: Journal,
        abilities: Abilities,
        new_files: NewFiles = BY_THE_KERNEL,
        token: str | None = None,
        private: bool = False,
    ) -> None:
        """Create it in `directory`, which has the path `path` (for the journal), or go on with what was parked there.

        One that is `private` is closed to others until it resembles an old file. Raises NothingParked, InUse.
        """
        self._directory = directory
        self._new_files = new_files
        self._private = private
        self._path = path
        self._journal = journal
        self._abilities = abilities
        self._hidden: bytes | None = None  # the temporary name, if it has one
        self._noted = False
        self._stays = token is not None  # under its hidden name, when it is closed
        self.file = self._parked(token) if token is not None else self._unnamed() or self._named()

    def fileno(self) -> int:
        return self.file.fileno()

    def settle(self) -> None:
        """Take the owner and the permissions of a new file; raises PermissionDenied."""
        self._new_files.settle(self.file, self._directory)

    def resemble(self, old: Descriptor) -> None:
        """Take over group, user attributes, permissions, ACL and owner of the file `old`, each as far as permitted.

        `old` may be opened with O_PATH. Never set-uid and the like, as write(2) drops them. The order matters: user
        attributes need the right to write (xattr(7)), and with the owner may go the right to change the rest.
        """
        status = os.fstat(old.fileno())
        with contextlib.suppress(OSError):
            os.fchown(self.fileno(), -1, status.st_gid)
        for name in _names_of_attributes(old):
            value = _attribute(old, name)
            if value is not None:
                with contextlib.suppress(OSError):
                    os.setxattr(self.fileno(), name, value)
        with contextlib.suppress(OSError):
            self._take_permissions(old, status.st_mode & 0o777)
        with contextlib.suppress(OSError):
            os.fchown(self.fileno(), status.st_uid, -1)

    def _take_permissions(self, old: Descriptor, mode: int) -> None:
        """Take over the mode and the ACL, or that there is none though the directory has one for new files."""
        acl = _attribute(old, _ACL)
        if acl is None:
            with contextlib.suppress(OSError):  # there is none, or this file system has no ACLs
                os.removexattr(self.fileno(), _ACL)
            os.fchmod(self.fileno(), mode)
        else:
            # Beside an ACL the group's bits are its mask (acl(5)): alone they would let the group in.
            os.fchmod(self.fileno(), mode & ~stat.S_IRWXG)
            os.setxattr(self.fileno(), _ACL, acl)

    def let_reopen(self) -> None:
        """Let the service open it for writing again, as far as permitted, whatever the file that it resembles permits.

        Who is not root needs the owner's permissions on what is his own.
        """
        with contextlib.suppress(OSError):
            mode = stat.S_IMODE(os.fstat(self.fileno()).st_mode)
            if mode & _OPENING != _OPENING:
                os.fchmod(self.fileno(), mode | _OPENING)

    def appear(self, name: bytes) -> None:
        """Give it the name `name`; raises FileExistsError where that is taken."""
        directory = self._directory.fileno()
        if self._hidden is None:
            self._link(name)
        else:
            in_one_step = self._abilities.rename_noreplace
            rename_to_free_name(directory, self._hidden, directory, name, in_one_step=in_one_step)
            self._hidden = None

    def replace(self, name: bytes) -> None:
        """Give it the name `name`, in the place of the file that has it."""
        hidden = self.hide()
        directory = self._directory.fileno()
        os.rename(hidden, name, src_dir_fd=directory, dst_dir_fd=directory)
        self._hidden = None

    def hide(self) -> bytes:
        """Give it a hidden name, if it has none yet, and return that."""
        if self._hidden is None:
            self._note()
            temporaries.lock(self.file)  # the sign of life comes before the name; nobody else can hold it yet
            hidden = temporaries.new_name()
            self._link(hidden)
            self._hidden = hidden
        return self._hidden

    def stay(self) -> None:
        """Keep it under its hidden name when it is closed: from now on somebody else knows of it."""
        self._stays = True

    def close(self) -> None:
        """Close it, and remove it unless it has been named or stays; never raises.

        What cannot be removed now, as the rights to do so may have ended, stays in the journal for the next start.
        """
        removed = self._remove_hidden()
        self.file.close()
        if removed:
            self._forget()

    def _remove_hidden(self) -> bool:
        hidden, self._hidden = self._hidden, None
        try:
            if hidden is not None and not self._stays:
                os.unlink(hidden, dir_fd=self._directory.fileno())
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True

    def _unnamed(self) -> Descriptor | None:
        directory = self._directory.fileno()
        try:
            if self._abilities.unnamed_files:
                return Descriptor(os.open(b".", os.O_TMPFILE | os.O_RDWR, self._mode(), dir_fd=directory))
        except OSError as error:
            # ext4 says EPERM where the directory was removed since it was opened, and means ENOENT as all others do
            if error.errno == errno.EPERM and not os.fstat(directory).st_nlink:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)) from error
            if error.errno not in _NO_UNNAMED_FILES:
                raise
        return None

    def _parked(self, token: str) -> Descriptor:
        self._hidden = temporaries.name_of(token)
        try:
            file = temporaries.open_parked(self._directory.fileno(), self._hidden)
        except OSError as error:
            if error.errno in _NOT_PARKED:
                raise NothingParked(f"{self._path}: nothing is parked under this token") from error
            raise
        if file is None:
            raise InUse(f"{self._path}: another writer goes on with this")
        return file

    def _named(self) -> Descriptor:
        self._note()
        try:
            directory = self._directory.fileno()
            file, self._hidden = temporaries.create_locked(directory, temporaries.new_name, self._mode())
        except BaseException:
            self._forget()
            raise
        return file

    def _mode(self) -> int:
        return _OPENING if self._private else self._new_files.file_mode(self._directory)

    def _link(self, name: bytes) -> None:
        # AT_EMPTY_PATH would need CAP_DAC_READ_SEARCH; open(2) names this way for everybody else
        os.link(_by_number(self.file), name, dst_dir_fd=self._directory.fileno(), follow_symlinks=True)

    def _note(self) -> None:
        if not self._noted:
            self._journal.enter(self._path)
            self._noted = True

    def _forget(self) -> None:
        if self._noted:
            self._noted = False
            self._journal.leave(self._path)


def _names_of_attributes(file: Descriptor) -> list[str]:
    """Return the names of what users have noted at the file; everything else is the system's own."""
    try:
        return [name for name in os.listxattr(_by_number(file)) if name.startswith("user.")]
    except OSError:
        return []


def _attribute(file: Descriptor, name: str) -> bytes | None:
    try:
        return os.getxattr(_by_number(file), name)
    except OSError:
        return None


def _by_number(file: Descriptor) -> str:
    """Return a path to the open file, for calls that do not take a descriptor, or not one of O_PATH."""
    return f"/proc/self/fd/{file.fileno()}"
