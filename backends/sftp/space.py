"""How much room there is, where the server offers statvfs@openssh.com."""

from __future__ import annotations

from dataclasses import dataclass

from backends.errors import OutOfSpace, StorageError, Unsupported
from backends.interface import Space
from backends.sftp.session import STATVFS, Session
from backends.sftp_packets import Type, string

LITTLE = 1 << 20  # bytes; a server with less has said "failure" because of it


@dataclass(frozen=True, slots=True)
class FileSystem:
    """What statvfs(3) tells; `files` are the names that can still be made, `total_files` 0 where that has no limit."""

    space: Space
    files: int
    total_files: int


def file_system(session: Session, directory: bytes) -> FileSystem:
    """Return the facts of the file system that holds a directory; raises Unsupported where none are offered."""
    if not session.offers(STATVFS):
        raise Unsupported(f"{session.name}: the server does not tell its free space")
    answer = session.ask("statvfs", Type.EXTENDED, string(STATVFS), string(directory))
    _, size, blocks, _, free, files, _, free_files = [answer.u64() for _ in range(8)]
    return FileSystem(Space(free * size, blocks * size), free_files, files)


def is_full(session: Session, directory: bytes) -> bool:
    """Tell whether a failure can be explained by a disk that is full; raises nothing."""
    try:
        facts = file_system(session, directory)
    except StorageError:
        return False
    return facts.space.total > 0 and (facts.space.free < LITTLE or (facts.total_files > 0 and not facts.files))


def require_space(session: Session, directory: bytes, size: int | None) -> None:
    """Raise OutOfSpace where `size` bytes cannot fit."""
    if size is None or not session.offers(STATVFS):
        return
    space = file_system(session, directory).space
    if space.total and size > space.free:
        raise OutOfSpace(f"{session.name}: {size} bytes announced, {space.free} are free")
