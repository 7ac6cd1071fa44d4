"""Refusals as SFTP says them: one table for what the layers below raise.

Version 3 has few codes, so the sentence carries the meaning; clients show it, or at least log it. A storage's own
sentence is for the operator's log, as it may name paths that the client must not know.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from backends.errors import (
    AlreadyExists,
    DigestMismatch,
    DirectoryNotEmpty,
    IncompleteWrite,
    InUse,
    InvalidPath,
    IsADirectory,
    NoAccount,
    NotADirectory,
    NotFound,
    NothingParked,
    OutOfSpace,
    PermissionDenied,
    PreconditionFailed,
    StorageError,
    Unavailable,
    Unreachable,
    Unsupported,
)
from backends.sftp_packets import Malformed, Status
from gateway.errors import (
    Busy,
    Conflict,
    Full,
    Invalid,
    Locked,
    NoSuch,
    NotAllowed,
    NotBuilt,
    PeerFailed,
    Refusal,
    TooMany,
    Unproven,
)


class SftpError(Exception):
    """A refusal of this door itself; `code` is a name for programs and the log."""

    def __init__(self, status: Status, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.code = code


class Answer(NamedTuple):
    """How one class of errors is answered; a `code` or `sentence` that is None is the error's own."""

    status: Status
    code: str | None = None
    sentence: str | None = None


ANSWERS: Mapping[type[Exception], Answer] = MappingProxyType(
    {
        NotFound: Answer(Status.NO_SUCH_FILE, "NOT_FOUND", "No such file or directory"),
        AlreadyExists: Answer(Status.FAILURE, "ALREADY_EXISTS", "File exists"),
        NotADirectory: Answer(Status.NO_SUCH_FILE, "NOT_A_DIRECTORY", "Not a directory"),
        IsADirectory: Answer(Status.FAILURE, "IS_A_DIRECTORY", "Is a directory"),
        DirectoryNotEmpty: Answer(Status.FAILURE, "DIRECTORY_NOT_EMPTY", "Directory not empty"),
        PermissionDenied: Answer(Status.PERMISSION_DENIED, "PERMISSION_DENIED", "The storage does not permit this"),
        NoAccount: Answer(
            Status.PERMISSION_DENIED,
            "NO_ACCOUNT",
            "Files belong to accounts here, and the user has none; ask the operator",
        ),
        InvalidPath: Answer(Status.FAILURE, "INVALID_PATH", "The storage cannot hold a name like this"),
        PreconditionFailed: Answer(
            Status.FAILURE, "CHANGED_MEANWHILE", "Somebody else has changed the file meanwhile; theirs is kept"
        ),
        IncompleteWrite: Answer(Status.FAILURE, "INCOMPLETE_WRITE", "The content is not whole; nothing was stored"),
        DigestMismatch: Answer(Status.FAILURE, "DIGEST_MISMATCH", "The content is not the one announced"),
        NothingParked: Answer(Status.FAILURE, "NOTHING_STORED", "Nothing of this upload is left; begin it anew"),
        InUse: Answer(Status.FAILURE, "UPLOAD_IN_PROGRESS", "Another session is at this upload; try again later"),
        OutOfSpace: Answer(Status.FAILURE, "OUT_OF_SPACE", "No space left on the storage; nothing was stored"),
        Unsupported: Answer(Status.OP_UNSUPPORTED, "UNSUPPORTED", "The storage cannot do this"),
        Unavailable: Answer(Status.FAILURE, "UNAVAILABLE", "The storage does not answer now; try again later"),
        Unreachable: Answer(
            Status.FAILURE,
            "PEER_UNREACHABLE",
            "The server that shares this does not answer now; nothing is lost, try again later",
        ),
        Invalid: Answer(Status.FAILURE),
        Unproven: Answer(Status.PERMISSION_DENIED, sentence="Your access has ended"),
        NotAllowed: Answer(Status.PERMISSION_DENIED),
        NoSuch: Answer(Status.NO_SUCH_FILE),
        Conflict: Answer(Status.FAILURE),
        Locked: Answer(Status.FAILURE, sentence="Somebody works on this with a lock; try again when it is released"),
        NotBuilt: Answer(Status.OP_UNSUPPORTED),
        PeerFailed: Answer(Status.FAILURE, sentence="Another server could not be reached or gave a wrong answer"),
        Busy: Answer(Status.FAILURE),
        TooMany: Answer(Status.FAILURE, sentence="Too many requests; try again later"),
        Full: Answer(Status.FAILURE),
        Malformed: Answer(Status.BAD_MESSAGE, "BAD_MESSAGE"),
    }
)

REFUSALS = (SftpError, StorageError, Refusal, Malformed)


def translate(error: Exception) -> SftpError:
    """Return `error`, one of REFUSALS, as a refusal of this door."""
    if isinstance(error, SftpError):
        return error
    answer = next(ANSWERS[kind] for kind in type(error).__mro__ if kind in ANSWERS)
    code = answer.code or str(getattr(error, "code", ""))
    return SftpError(answer.status, code, answer.sentence or str(error))


def may_have_changed(error: BaseException) -> bool:
    """Tell whether what has failed so may have been done in part: cut off, unanswered, or a mistake of ours."""
    return not isinstance(error, REFUSALS) or isinstance(error, Unavailable)


def read_only() -> SftpError:
    return SftpError(Status.PERMISSION_DENIED, "READ_ONLY", "This is read-only for you")


def root_stays() -> SftpError:
    return SftpError(Status.PERMISSION_DENIED, "ROOT", "This folder or Share as a whole stays where it is")


def nothing_is_created_here() -> SftpError:
    return SftpError(
        Status.PERMISSION_DENIED, "NO_MOUNT", "Nothing can be made or changed here, only inside of your folders"
    )


def unsupported(what: str) -> SftpError:
    return SftpError(Status.OP_UNSUPPORTED, "UNSUPPORTED", what)
