"""What the server can do, found out by trying, once, before the first write.

Servers that do not know a condition ignore it, and say yes to what should have been refused; those over a file system
have no object whose name ends in a slash. Neither is told by the server, nor by its name.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass

from backends.errors import PermissionDenied, PreconditionFailed, StorageError, Unavailable
from backends.s3.bucket import Bucket, Parameters
from backends.shared_call import SharedCall
from backends.temporaries import PREFIX, STALE_AFTER, is_temporary, new_name

NO_ETAG = '"00000000000000000000000000000000"'  # no object's
CREATE: Parameters = {"IfNoneMatch": "*"}
REPLACE: Parameters = {"IfMatch": NO_ETAG}


@dataclass(frozen=True, slots=True)
class Abilities:
    """Conditions that are kept, on a content in one piece and on one in parts; objects whose name ends in a slash."""

    create: bool = False
    replace: bool = False
    create_in_parts: bool = False
    replace_in_parts: bool = False
    markers: bool = True

    @property
    def all_conditions(self) -> bool:
        return self.create and self.replace and self.create_in_parts and self.replace_in_parts


class Probe:
    """Finds the abilities out when they are needed for the first time."""

    def __init__(self, bucket: Bucket, root: str) -> None:
        self._bucket = bucket
        self._root = root
        self._trial: SharedCall[Abilities] = SharedCall()
        self.known: Abilities | None = None

    def abilities(self) -> Abilities:
        """Return them; raises Unavailable. Where nothing may be written there are none, until it may.

        Who needs them while they are tried out shares the outcome: nobody waits for more than one trial.
        """
        return self._trial.result(lambda: self.known, self._try_out)

    def _try_out(self) -> Abilities:
        try:
            self.known = self._find_out()
        except PermissionDenied:
            return Abilities()
        return self.known

    def _find_out(self) -> Abilities:
        key, marker = (f"{self._root}{new_name().decode()}{end}" for end in ("", "/"))
        self._drop_stale()
        try:
            self._bucket.put(key, b"probe", {})
            return Abilities(
                create=self._keeps(key, CREATE),
                replace=self._keeps(key, REPLACE),
                create_in_parts=self._keeps_in_parts(key, CREATE),
                replace_in_parts=self._keeps_in_parts(key, REPLACE),
                markers=self._has_markers(marker),
            )
        finally:
            for one in (key, marker):
                with contextlib.suppress(StorageError):
                    self._bucket.delete(one)

    def _drop_stale(self) -> None:
        """Remove what such trials have left when their processes died in the middle; raises Unavailable."""
        prefix = f"{self._root}{PREFIX.decode()}"
        with _allowed_to_fail():
            for key, found in self._bucket.walk(prefix):
                if self._is_stale(key, found.modified / 1_000_000_000):
                    self._bucket.delete(key)
        with _allowed_to_fail():
            for upload in self._bucket.uploads(prefix):
                if self._is_stale(upload.key, upload.begun or 0):
                    self._bucket.abort(upload.key, upload.id)

    def _is_stale(self, key: str, since: float) -> bool:
        """Tell whether nobody tries anything with this key any more; `since` is in seconds since the epoch.

        Where the server tells no time it is 0, and a trial that lasts may be meant.
        """
        name = key[len(self._root) :].removesuffix("/").encode()
        return is_temporary(name) and 0 < since < time.time() - STALE_AFTER

    def _keeps(self, key: str, condition: Parameters) -> bool:
        """Tell whether the server refuses to store what the condition forbids."""
        try:
            self._bucket.put(key, b"probe", condition)
        except PreconditionFailed:
            return True
        except Unavailable:
            raise
        except StorageError:  # the server knows the condition, and does not have it
            return False
        return False

    def _keeps_in_parts(self, key: str, condition: Parameters) -> bool:
        upload = self._bucket.begin(key)
        try:
            part = self._bucket.part(key, upload, 1, b"probe")
            self._bucket.complete(key, upload, [{"PartNumber": 1, "ETag": part}], condition)
        except PreconditionFailed:
            return True
        except Unavailable:
            raise
        except StorageError:
            return False
        finally:
            with contextlib.suppress(StorageError):
                self._bucket.abort(key, upload)
        return False

    def _has_markers(self, marker: str) -> bool:
        """Tell whether an empty object whose key ends in a slash is listed as what it is."""
        try:
            self._bucket.put(marker, b"", {})
        except Unavailable:
            raise
        except StorageError:
            return False
        return marker in self._bucket.page(marker).objects


@contextlib.contextmanager
def _allowed_to_fail() -> Iterator[None]:
    """Pass over what the server refuses or cannot do: those who may only write can try as well."""
    try:
        yield
    except Unavailable:
        raise
    except StorageError:
        return
