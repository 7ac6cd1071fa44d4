"""What the status of an answer means for storage: one table."""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from backends.errors import (
    InvalidPath,
    NotFound,
    OutOfSpace,
    PermissionDenied,
    PreconditionFailed,
    StorageError,
    Unavailable,
    Unsupported,
)

RETRY_DEFAULT, RETRY_MAX = 30, 3600  # seconds
REDIRECTS = frozenset({300, 301, 302, 303, 305, 307, 308})


class RemoteRefused(PermissionDenied):
    """The server does not accept the credential (401), or not for this (403)."""

    def __init__(self, reason: str, status: int) -> None:
        super().__init__(reason)
        self.status = status


class OddAnswer(Unavailable):
    """A status that has no meaning here, or many: what is the matter has to be found out otherwise."""


# Source: RFC 9110 section 15, RFC 4918 sections 9 and 11. Anything else is an OddAnswer.
MEANING: dict[int, tuple[type[StorageError], str]] = {
    401: (RemoteRefused, "the credential is not accepted"),
    403: (RemoteRefused, "it is not allowed"),
    404: (NotFound, "nothing there"),
    405: (PermissionDenied, "the server does not do this there"),
    409: (NotFound, "the directory for it does not exist"),
    410: (NotFound, "nothing there any more"),
    411: (Unsupported, "the server wants to know the size beforehand"),
    412: (PreconditionFailed, "it is not as expected"),
    413: (OutOfSpace, "too large for the server"),
    414: (InvalidPath, "the path is too long for the server"),
    423: (PermissionDenied, "it is locked by somebody else"),
    429: (Unavailable, "too many requests"),
    501: (Unsupported, "the server cannot do this"),
    502: (Unavailable, "the server behind it does not answer"),
    503: (Unavailable, "the server is not available"),
    504: (Unavailable, "the server behind it does not answer in time"),
    507: (OutOfSpace, "no space left"),
}


def refusal(status: int, headers: Mapping[str, str], what: str) -> StorageError:
    """Return the error for an answer that was not the one hoped for; `what` names server, method and path."""
    if status in REDIRECTS:
        return OddAnswer(f"{what}: the server redirects ({status}), which is not followed")
    kind, reason = MEANING.get(status, (OddAnswer, "not an answer to this"))
    sentence = f"{what}: {reason} ({status})"
    if issubclass(kind, RemoteRefused):
        return kind(sentence, status)
    if issubclass(kind, Unavailable):
        return kind(sentence, _retry_after(headers.get("Retry-After", "")))
    return kind(sentence)


def _retry_after(value: str) -> int:
    """Return the seconds of a Retry-After header (RFC 9110 section 10.2.3), within bounds."""
    if value.isascii() and value.isdigit():
        return min(max(int(value[:9]), 1), RETRY_MAX)
    try:
        return min(max(int(parsedate_to_datetime(value).timestamp() - time.time()), 1), RETRY_MAX)
    except (TypeError, ValueError, OverflowError):
        return RETRY_DEFAULT
