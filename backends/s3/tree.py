"""A tree where there are only keys: a directory is there by its marker, or by having something below.

The marker is an empty object, `name/`, as the console, rclone and s3fs write it. A server over a file system has no
such names; there it is a hidden file in the directory. Where a key is both a file and the beginning of others, which S3
allows, the file is what is seen.
"""

from __future__ import annotations

import hashlib
import re

from backends.errors import NotADirectory, NotFound
from backends.interface import Entry, Kind
from backends.paths import StoragePath
from backends.s3.abilities import Probe
from backends.s3.bucket import Bucket, Found
from backends.s3.keys import Keys
from backends.temporaries import PREFIX

HIDDEN_MARKER = f"{PREFIX.decode()}directory"
MARKERS = ("", HIDDEN_MARKER)  # behind the prefix of a directory
_ETAG = re.compile(r"[0-9A-Za-z.-]{1,40}")


class Directory:
    """Says that a directory is at a path; S3 knows nothing else of it."""


DIRECTORY = Directory()


def entry_of(name: bytes, what: Found | Directory) -> Entry:
    """Describe what is there; of a directory S3 knows no time, and no version."""
    if isinstance(what, Directory):
        return Entry(name, Kind.DIRECTORY, 0, 0, "directory")
    return Entry(name, Kind.FILE, what.size, what.modified, etag_of(what))


def etag_of(found: Found) -> str:
    """Return the server's ETag where that has the form of ours, else one that is made of all that is known."""
    if _ETAG.fullmatch(found.etag):
        return found.etag
    return hashlib.sha256(f"{found.etag}\0{found.size}\0{found.modified}".encode()).hexdigest()[:40]


class Tree:
    """Looks and markers; safe for several threads."""

    def __init__(self, bucket: Bucket, keys: Keys, probe: Probe) -> None:
        self._bucket = bucket
        self._keys = keys
        self._probe = probe

    def look(self, path: StoragePath) -> Found | Directory | None:
        """Return what is at `path`, None if nothing is; raises InvalidPath."""
        if path.is_root:
            self._bucket.page(self._keys.root, most=1)  # raises where the bucket is not there
            return DIRECTORY
        found = self._bucket.find(self._keys.of(path))
        if found is not None:
            return found
        return DIRECTORY if self.is_directory(path) else None

    def is_directory(self, path: StoragePath) -> bool:
        """Tell whether there is anything in the directory at `path`, or its marker; the root is always there."""
        if path.is_root:
            return True
        prefix = self._keys.directory(path)
        if not self._bucket.page(prefix, most=1).is_empty:
            return True
        known = self._probe.known
        # A file system behind the server has directories without anything in them, which only their parent lists.
        return known is not None and not known.markers and prefix in self._bucket.page(prefix[:-1]).prefixes

    def require_parent(self, path: StoragePath) -> None:
        """Make sure that something can be made at `path`; raises NotFound, NotADirectory."""
        ancestor = path.parent
        if self.is_directory(ancestor):
            return
        while not ancestor.is_root:
            if self._bucket.find(self._keys.of(ancestor)) is not None:
                raise NotADirectory(f"/{ancestor} is not a directory")
            ancestor = ancestor.parent
        raise NotFound(f"/{path.parent}: nothing there")

    def is_empty(self, path: StoragePath) -> bool:
        """Tell whether nothing but a marker is in the directory; names that no StoragePath can hold count as well."""
        prefix = self._keys.directory(path)
        page = self._bucket.page(prefix, most=3)
        return not page.prefixes and not page.objects.keys() - _markers(prefix)

    def mark(self, path: StoragePath) -> None:
        """Write the marker of the directory at `path`."""
        self._bucket.put(self._marker(path), b"", {})

    def unmark(self, path: StoragePath) -> None:
        """Remove the marker, whatever its form."""
        prefix = self._keys.directory(path)
        markers = self._bucket.page(prefix, most=3).objects.keys() & _markers(prefix)
        if not markers:  # a directory of the file system behind the server: it goes with the last file in it
            self.mark(path)
            markers = {self._marker(path)}
        for marker in markers:
            self._bucket.delete(marker)

    def keep(self, path: StoragePath) -> None:
        """Let the directory at `path` stay, also where the last thing in it has gone."""
        if not self.is_directory(path):
            self.mark(path)

    def _marker(self, path: StoragePath) -> str:
        prefix = self._keys.directory(path)
        return prefix if self._probe.abilities().markers else prefix + HIDDEN_MARKER


def _markers(prefix: str) -> set[str]:
    return {prefix + marker for marker in MARKERS}
