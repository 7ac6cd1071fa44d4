"""One level of the tree, page by page; what is held is one page, whatever the number of keys."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from backends.errors import InvalidPath, StorageError
from backends.interface import Entry, Scan
from backends.paths import check_name
from backends.s3.bucket import Bucket, Page
from backends.s3.tree import DIRECTORY, entry_of
from backends.temporaries import is_hidden


class S3Scan(Scan):
    """The entries below `prefix`, from its first page on, which was read already."""

    def __init__(self, bucket: Bucket, prefix: str, first: Page, batch: int) -> None:
        self._bucket = bucket
        self._prefix = prefix
        self._batch = batch
        self._entries = self._all(first)
        self._failure: StorageError | None = None

    def next(self) -> list[Entry]:
        if self._failure is not None:  # an empty list would say that this was all
            raise self._failure
        try:
            return list(islice(self._entries, self._batch))
        except StorageError as error:
            self._failure = error
            raise

    def close(self) -> None:
        self._entries = iter(())

    def _all(self, page: Page) -> Iterator[Entry]:
        files: list[str] = []  # each is the beginning of the next, and of what is listed now
        while True:
            for key in sorted((*page.objects, *page.prefixes)):
                while files and not key.startswith(files[-1]):
                    files.pop()
                found = page.objects.get(key)
                if found is None and key[:-1] in files:  # the file of that name is what is seen
                    continue
                if found is not None:
                    files.append(key)
                entry = self._entry(key, page)
                if entry is not None:
                    yield entry
            if page.following is None:
                return
            page = self._bucket.page(self._prefix, page.following)

    def _entry(self, key: str, page: Page) -> Entry | None:
        """Return the entry of a key; None for markers, and for names that no StoragePath can hold."""
        found = page.objects.get(key, DIRECTORY)
        name = key[len(self._prefix) :].encode("utf-8", "surrogatepass")
        name = name[:-1] if found is DIRECTORY else name
        try:
            return None if is_hidden(name) else entry_of(check_name(name), found)
        except InvalidPath:
            return None
