"""Refusals as answers: one table for what the layers below raise, and one form of body.

A storage's own sentence is for the operator's log, as it may name paths that the caller must not know; the caller
gets the code and a general sentence. No answer and no log line holds a credential.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from aiohttp import web

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
from gateway.dav.xml import error_body
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


class DavError(Exception):
    """A refusal of this door itself; `condition` is a condition code of RFC 4918 §16, about the addresses `hrefs`."""

    def __init__(
        self,
        status: int,
        code: str,
        sentence: str,
        *,
        condition: str | None = None,
        hrefs: Sequence[str] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(sentence)
        self.status = status
        self.code = code
        self.condition = condition
        self.hrefs = tuple(hrefs)
        self.headers = dict(headers or {})


@dataclass(frozen=True, slots=True)
class Answer:
    """How one class of errors is answered; a `code` or `sentence` that is None is the error's own."""

    status: int
    code: str | None = None
    sentence: str | None = None


# Sources: RFC 9110 §15, RFC 4918 §9 and §11. A method that needs another status says so itself.
ANSWERS: Mapping[type[Exception], Answer] = MappingProxyType(
    {
        NotFound: Answer(404, "NOT_FOUND", "there is nothing here"),
        AlreadyExists: Answer(405, "ALREADY_EXISTS", "there is something here already"),
        NotADirectory: Answer(409, "NOT_A_DIRECTORY", "a folder was expected and a file is there"),
        IsADirectory: Answer(405, "IS_A_DIRECTORY", "this is a folder, which has no content of its own"),
        DirectoryNotEmpty: Answer(409, "DIRECTORY_NOT_EMPTY", "the folder is not empty"),
        PermissionDenied: Answer(403, "PERMISSION_DENIED", "the storage does not permit this"),
        NoAccount: Answer(403, "NO_ACCOUNT", "files belong to accounts here, and the user has none; ask the operator"),
        InvalidPath: Answer(400, "INVALID_PATH", "the storage cannot hold a name like this"),
        PreconditionFailed: Answer(412, "PRECONDITION_FAILED", "the content is not what the request expects"),
        IncompleteWrite: Answer(400, "INCOMPLETE_WRITE", "the length of the content is not the one announced"),
        DigestMismatch: Answer(400, "DIGEST_MISMATCH", "the content has another digest than announced"),
        NothingParked: Answer(409, "NOTHING_STORED", "nothing of this upload is stored any more; begin it anew"),
        InUse: Answer(409, "UPLOAD_IN_PROGRESS", "another request is at this upload; try again when it has ended"),
        OutOfSpace: Answer(507, "OUT_OF_SPACE", "the storage is full"),
        Unsupported: Answer(501, "UNSUPPORTED", "the storage cannot do this"),
        Unavailable: Answer(503, "UNAVAILABLE", "the storage does not answer now; try again later"),
        Unreachable: Answer(
            503,
            "PEER_UNREACHABLE",
            "the server that shares this does not answer now; nothing is lost, and all your other files are there",
        ),
        Invalid: Answer(400),
        Unproven: Answer(401, sentence="no valid credential was given"),
        NotAllowed: Answer(403),
        NoSuch: Answer(404),
        Conflict: Answer(409),
        Locked: Answer(423),
        NotBuilt: Answer(501),
        PeerFailed: Answer(502, sentence="another server could not be reached or gave a wrong answer"),
        Busy: Answer(503),
        TooMany: Answer(429, sentence="too many requests, or log-ins that failed; try again later"),
        Full: Answer(507),
    }
)

CHANGED = frozenset({201, 204, 207})  # answers after which something may be another than before
NO_LONGER_ALLOWED = "NO_LONGER_ALLOWED"

REFUSALS = (DavError, StorageError, Refusal)


def translate(error: Exception) -> DavError:
    """Return `error`, one of REFUSALS, as a refusal of this door."""
    if isinstance(error, DavError):
        return error
    answer = next(ANSWERS[kind] for kind in type(error).__mro__ if kind in ANSWERS)
    code = answer.code or str(getattr(error, "code", ""))
    retry_after = getattr(error, "retry_after", None)
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return DavError(answer.status, code, answer.sentence or str(error), headers=headers)


def may_have_changed(error: BaseException) -> bool:
    """Tell whether a method that has failed so may have done a part of its work, though it does not know of any."""
    if not isinstance(error, REFUSALS):
        return True  # a cancellation, or a mistake of ours
    refusal = translate(error)
    return refusal.code == NO_LONGER_ALLOWED or (refusal.status >= 500 and refusal.status != 501)


def root_stays() -> DavError:
    return DavError(403, "ROOT", "this folder or Share as a whole stays where it is")


def nothing_is_created_here() -> DavError:
    return DavError(403, "NO_MOUNT", "nothing can be created here, only inside of the folders that you have")


def locked(error: Locked, condition: str, hrefs: Sequence[str]) -> DavError:
    return DavError(423, error.code, str(error), condition=condition, hrefs=hrefs)


def response(error: DavError) -> web.Response:
    """Return the answer with the body that sabre/dav gives, which clients show and programs can read."""
    answer = web.Response(
        status=error.status,
        body=error_body(error.code, str(error), error.condition, error.hrefs),
        content_type="application/xml",
        charset="utf-8",
    )
    answer.headers.update(error.headers)
    return answer
