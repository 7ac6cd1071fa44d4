"""What storage can refuse, in one small tree that every door translates once.

    StorageError
        NotFound                no such file or directory, or one that must not be seen
        AlreadyExists           the name is taken
        NotADirectory           a component that has to be a directory is none
        IsADirectory            a file was expected
        DirectoryNotEmpty
        PermissionDenied        the storage itself says no
        NoAccount               the storage works for accounts of this machine only, and the user has none
        InvalidPath             a name that this storage cannot hold
        PreconditionFailed      if_match or if_none_match does not hold
        IncompleteWrite         fewer or more bytes than announced
        DigestMismatch          other content than announced
        NothingParked           what an upload left to be resumed is gone, or shorter than it was
        InUse                   another Writer works on what was left
        OutOfSpace              the disk, or the quota on it, is full
        Unsupported             a feature that this backend does not declare
        Unavailable             the storage does not answer; try again later
            Unreachable         it is another server's, which cannot be reached now

No message holds a secret, and each is a sentence for the operator's log.
"""


class StorageError(Exception):
    """Never raised itself; its subclasses say what happened."""


class NotFound(StorageError):
    """There is nothing at this path, or nothing that may be seen."""


class AlreadyExists(StorageError):
    """The name is taken."""


class NotADirectory(StorageError):
    """A component of the path, or the path itself, has to be a directory and is not."""


class IsADirectory(StorageError):
    """The path is a directory where a file was expected."""


class DirectoryNotEmpty(StorageError):
    """The directory still has entries."""


class PermissionDenied(StorageError):
    """The storage refuses this operation to the service."""


class NoAccount(StorageError):
    """The user has no account with whose rights this storage could work; the message says what the operator can do."""


class InvalidPath(StorageError):
    """The storage cannot hold a name like this."""


class PreconditionFailed(StorageError):
    """The content is no longer what the caller expected."""


class IncompleteWrite(StorageError):
    """The number of bytes received differs from the number announced."""


class DigestMismatch(StorageError):
    """The content received differs from the digest announced."""


class NothingParked(StorageError):
    """What an upload left to be resumed is gone, or shorter than it was."""


class InUse(StorageError):
    """Another Writer works on what an upload left to be resumed."""


class OutOfSpace(StorageError):
    """The disk is full, or the quota on it is used up."""


class Unsupported(StorageError):
    """This backend does not declare the feature that was asked for."""


class Unavailable(StorageError):
    """The storage does not answer now; `retry_after` is in seconds."""

    def __init__(self, reason: str, retry_after: int = 30) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class Unreachable(Unavailable):
    """The storage is another server's, which cannot be reached now."""
