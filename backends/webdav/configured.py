"""What is special about a server that the operator has configured, where a received Share is somebody else's affair.

Its root has to be a collection; its errors name the settings that they may be about; and no content is written under
its name but beside it, since few servers keep the old content when an upload is cut off.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from backends.errors import NotFound, PermissionDenied, StorageError, Unavailable, Unsupported
from backends.webdav.answers import OddAnswer, RemoteRefused


def _nothing() -> None:
    """Release nothing."""


@dataclass(frozen=True, slots=True)
class Configured:
    """How the configuration calls a server."""

    section: str  # as in backends.grid
    credential: str  # the keys by which this side proves who it is, in words
    aside: bool = True  # contents are uploaded beside their place, and moved there when they are whole
    release: Callable[[], None] = _nothing  # called when the backend is closed

    def about_credential(self, refused: StorageError) -> StorageError:
        """Say of a refusal which settings the server judges; no user can do anything about a wrong password."""
        if not isinstance(refused, RemoteRefused):
            return refused
        sentence = f"{refused}; the server judges {self.credential}"
        return Unavailable(sentence) if refused.status == 401 else RemoteRefused(sentence, refused.status)

    def about_root(self, error: StorageError) -> StorageError:
        """Say of an error at the root which setting it is about, if the server has understood something else."""
        misled = isinstance(error, NotFound | OddAnswer | Unsupported) or type(error) is PermissionDenied
        return self.no_collection(str(error)) if misled else error

    def no_collection(self, reason: str) -> Unavailable:
        """Return the error for a root that is not what it has to be."""
        return Unavailable(f"{reason}; {self.section}.url has to be that of a WebDAV collection")

    def about_upload(self, error: StorageError) -> StorageError:
        """Say of a refusal to take a hidden name that there is another way."""
        if not isinstance(error, RemoteRefused):
            return error
        return RemoteRefused(f"{error}; if it is the hidden name, see {self.section}.uploads", error.status)
