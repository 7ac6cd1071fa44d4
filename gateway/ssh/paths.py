"""Paths as clients write them: bytes, with `.` and `..`, absolute or from where the log-in begins, which is `/`."""

from __future__ import annotations

from backends.errors import InvalidPath, NotFound
from backends.paths import StoragePath


def parse(path: bytes) -> StoragePath:
    """Return the place that `path` names, without a look at any storage; nothing leads above `/`.

    Raises NotFound for what no storage could hold.
    """
    parts: list[bytes] = []
    for part in path.split(b"/"):
        if part == b"..":
            del parts[-1:]
        elif part not in (b"", b"."):
            parts.append(part)
    try:
        return StoragePath().join(parts)
    except InvalidPath as error:
        raise NotFound(str(error)) from error


def means_folder(path: bytes) -> bool:
    """Tell whether `path` can be that of a folder only, as it ends with `/`."""
    return path.endswith(b"/")


def without_home(path: bytes) -> bytes:
    """Return `path` without `~`: a log-in begins at the root, whoever it is."""
    return path[1:] if path == b"~" or path.startswith(b"~/") else path


def absolute(path: StoragePath) -> bytes:
    """Return `path` as clients see it."""
    return b"/" + bytes(path)
