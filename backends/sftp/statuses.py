"""What the status of an answer means for storage: one table."""

from __future__ import annotations

from backends.errors import InvalidPath, NotFound, PermissionDenied, StorageError, Unavailable, Unsupported
from backends.paths import printable
from backends.sftp_packets import Status


class Lost(Unavailable):
    """The connection has ended, or is given up: nothing more will be answered on it."""


class Failure(Unavailable):
    """The one status for all that has no other: what is the matter has to be found out otherwise."""


class EndOfData(Unavailable):
    """Nothing more is in the file or directory; whoever reads expects it."""


# draft-ietf-secsh-filexfer-02 section 7. OpenSSH says "no such file" below a file and in a loop of links as well, "bad
# message" of a name that is too long, and "failure" of a full disk, a name that is taken, a directory with something in
# it (errno_to_portable in sftp-server.c).
MEANING: dict[int, tuple[type[StorageError], str]] = {
    Status.EOF: (EndOfData, "it ends here"),
    Status.NO_SUCH_FILE: (NotFound, "nothing there"),
    Status.PERMISSION_DENIED: (PermissionDenied, "it is not allowed"),
    Status.FAILURE: (Failure, "the server could not do it"),
    Status.BAD_MESSAGE: (InvalidPath, "the server cannot hold such a name"),
    Status.NO_CONNECTION: (Unavailable, "the server has no connection"),
    Status.CONNECTION_LOST: (Unavailable, "the server has lost its connection"),
    Status.OP_UNSUPPORTED: (Unsupported, "the server cannot do this"),
}


def refusal(code: int, text: bytes, what: str) -> StorageError:
    """Return the error for a status that is not OK; `what` names server and path, `text` is the server's own."""
    kind, reason = MEANING.get(code, (Failure, f"status {code}"))
    said = f" ({printable(text[:200])})" if text else ""
    return kind(f"{what}: {reason}{said}")
