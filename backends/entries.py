"""What storage shows of a file or directory, and the times that it can have."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from backends.errors import Unsupported

# The years 1 to 9999, which dates on the wire can express (RFC 9110 section 5.6.7), in nanoseconds since the epoch
MODIFIED_MIN = -62_135_596_800 * 1_000_000_000
MODIFIED_MAX = 253_402_300_799 * 1_000_000_000


class Kind(Enum):
    FILE = "file"
    DIRECTORY = "directory"


@dataclass(frozen=True, slots=True)
class Identity:
    """What stays the same when a file or directory is renamed: numbers of the file system that contains it.

    `device` is one that outlives restarts and new mounts, where the storage can tell; not always st_dev.
    """

    device: int
    inode: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One file or directory as the storage shows it.

    `name` is one that `StoragePath.child` accepts, empty for the root; `size` in bytes (0 for directories);
    `modified` in nanoseconds since the epoch, from MODIFIED_MIN to MODIFIED_MAX; `etag` is strong, unquoted
    and of at most 40 characters [0-9A-Za-z.-]: it changes whenever the content does; `mode` holds the permission
    bits alone; `owner` is (uid, gid).
    """

    name: bytes
    kind: Kind
    size: int
    modified: int
    etag: str
    identity: Identity | None = None
    mode: int | None = None
    owner: tuple[int, int] | None = None

    @property
    def is_directory(self) -> bool:
        return self.kind is Kind.DIRECTORY


def check_modified(modified: int) -> None:
    """Refuse a time that dates on the wire cannot express; raises Unsupported."""
    if not MODIFIED_MIN <= modified <= MODIFIED_MAX:
        raise Unsupported("a time outside of the years 1 to 9999")
