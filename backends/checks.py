"""What every storage refuses alike, by paths and kinds alone."""

from __future__ import annotations

from backends.errors import InvalidPath, IsADirectory, NotADirectory, PermissionDenied
from backends.paths import StoragePath


def require_below_root(path: StoragePath) -> None:
    """Refuse what would take the root away; raises PermissionDenied."""
    if path.is_root:
        raise PermissionDenied("the root stays where it is")


def check_rename(source: StoragePath, target: StoragePath) -> None:
    """Refuse what no renaming can do; raises PermissionDenied for the root, InvalidPath for a path into itself."""
    require_below_root(source)
    require_below_root(target)
    if source != target and target.is_within(source):
        raise InvalidPath(f"/{source} cannot be renamed into itself")


def check_kinds(target: StoragePath, *, from_directory: bool, to_directory: bool) -> None:
    """Let a file replace a file, and a directory a directory; raises IsADirectory, NotADirectory."""
    if to_directory and not from_directory:
        raise IsADirectory(f"/{target} is a directory")
    if from_directory and not to_directory:
        raise NotADirectory(f"/{target} is not a directory")
