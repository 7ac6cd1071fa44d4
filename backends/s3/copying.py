"""Copies that the server makes by itself: in one request up to 5 GiB, in parts beyond."""

from __future__ import annotations

from backends.errors import IncompleteWrite, NotFound, PreconditionFailed, Unavailable
from backends.paths import StoragePath
from backends.s3.bucket import Found, Parameters
from backends.s3.parts import PARTS_MAX, PartedUpload
from backends.s3.writing import Store

GIB = 1024**3
COPY_MAX = 5 * GIB  # Amazon S3 API Reference, CopyObject
PART = GIB // 2
DESCRIPTION = ("CacheControl", "ContentDisposition", "ContentEncoding", "ContentLanguage", "ContentType", "Metadata")


def copy_object(store: Store, source: str, found: Found, target: str, path: StoragePath) -> Found:
    """Copy the object `found` from key to key and return the new one; `path` is the target's, for the journal.

    Raises Unavailable where the source is another by now, and what the server refuses; then the target is as it was.
    """
    try:
        if is_copied_in_parts(found):
            _in_parts(store, source, found, target, path)
        else:
            store.bucket.copy(source, found.etag, target)
    except (PreconditionFailed, NotFound) as error:
        raise Unavailable(f"{store.bucket.location}: /{source} changed while it was copied", retry_after=1) from error
    made = store.bucket.head(target)
    if made.size != found.size:
        raise IncompleteWrite(f"{store.bucket.location}: /{target}: {made.size} of {found.size} bytes were copied")
    return made


def is_copied_in_parts(found: Found) -> bool:
    """Tell whether copying the object keeps threads of the store busy."""
    return found.size > COPY_MAX


def _in_parts(store: Store, source: str, found: Found, target: str, path: StoragePath) -> None:
    """What describes the object does not come along by itself, as in a copy in one request."""
    told = store.bucket.describe(source)
    description: Parameters = {name: told[name] for name in DESCRIPTION if told.get(name)}
    upload = PartedUpload(store.bucket, target, path, store.threads, store.leftovers, description)
    try:
        length = max(PART, -(-found.size // PARTS_MAX))
        for first in range(0, found.size, length):
            last = min(first + length, found.size) - 1

            def copied(number: int, first: int = first, last: int = last) -> str:
                return store.bucket.part_copy(target, upload.id, number, source, found.etag, first, last)

            upload.do(copied, lambda: None)
        upload.complete({})
    except BaseException:
        upload.abort()
        raise
