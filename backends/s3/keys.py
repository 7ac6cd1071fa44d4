"""Paths as keys: the prefix, a slash between names, a slash at the end of a directory."""

from __future__ import annotations

from backends.errors import InvalidPath
from backends.paths import StoragePath
from backends.temporaries import is_hidden

KEY_MAX = 1024  # bytes of UTF-8: Amazon S3 User Guide, "Naming Amazon S3 objects"


class Keys:
    """The keys of one root; `root` is the prefix of all of them, empty or ending in a slash."""

    def __init__(self, prefix: str) -> None:
        self.root = f"{prefix.strip('/')}/".lstrip("/")

    def of(self, path: StoragePath) -> str:
        """Return the key of the file at `path`; raises InvalidPath for what no key can say."""
        if any(is_hidden(name) for name in path.parts):
            raise InvalidPath(f"/{path}: names like this are the gateway's own")
        try:
            key = self.root + bytes(path).decode()
        except UnicodeDecodeError as error:
            raise InvalidPath(f"/{path}: S3 takes only names in UTF-8") from error
        return _require_short(key, path)

    def directory(self, path: StoragePath) -> str:
        """Return what the keys of all that is in the directory at `path` begin with; raises InvalidPath."""
        return self.root if path.is_root else _require_short(f"{self.of(path)}/", path)


def _require_short(key: str, path: StoragePath) -> str:
    if len(key.encode()) > KEY_MAX:
        raise InvalidPath(f"/{path}: S3 takes keys of at most {KEY_MAX} bytes")
    return key
