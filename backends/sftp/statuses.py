"""What the status of an answer means for storage: one table."""

from __future__ import annotations

from backends.errors import InvalidPath, NotFound, PermissionDenied, StorageError, Unavailable, Unsupported
from backends.paths import printable

OK = 0


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
    1: (EndOfData, "it ends here"),
    2: (NotFound, "nothing there"),
    3: (PermissionDenied, "it is not allowed"),
    4: (Failure, "the server could not do it"),
    5: (InvalidPath, "the server cannot hold such a name"),
    6: (Unavailable, "the server has no connection"),
    7: (Unavailable, "the server has lost its connection"),
    8: (Unsupported, "the server cannot do this"),
}


def refusal(code: int, text: bytes, what: str) -> StorageError:
    """Return the error for a status that is not OK; `what` names server and path, `text` is the server's own."""
    kind, reason = MEANING.get(code, (Failure, f"status {code}"))
    said = f" ({printable(text[:200])})" if text else ""
    return kind(f"{what}: {reason}{said}")
