"""A file that is open for reading, and what it was when it was opened."""

from __future__ import annotations

from dataclasses import dataclass

from backends.errors import NotFound, StorageError
from backends.interface import Entry
from backends.paths import StoragePath
from backends.sftp.session import Session
from backends.sftp.tree import Tree, require_file
from backends.sftp.versions import Versions, entry_of
from backends.sftp_packets import Attributes, Open, Type, string, u32


@dataclass(slots=True)
class OpenFile:
    """Its handle is good on its own session alone."""

    session: Session
    handle: bytes
    facts: Attributes
    entry: Entry
    versions: Versions

    def is_described_by(self, now: Attributes) -> bool:
        """Tell whether the file is unchanged, of which FSTAT says `now`."""
        return self.versions.is_same(self.facts, now)

    def close(self) -> None:
        """Close the handle, once: the server may give it to another file then. Never raises."""
        handle, self.handle = self.handle, b""
        if handle:
            self.session.close_handle(handle)


def open_file(session: Session, tree: Tree, versions: Versions, path: StoragePath) -> OpenFile:
    """Open the file at `path`; raises NotFound, IsADirectory, PermissionDenied, Unavailable."""
    found = tree.look(session, path)
    require_file(found, path)  # a FIFO, for one, would hold up the server
    opening = string(found.place), u32(Open.READ), Attributes().to_bytes()
    handle = session.ask(f"/{path}", Type.OPEN, *opening).string()
    try:
        facts = session.ask(f"/{path}", Type.FSTAT, string(handle)).attributes()
        entry = entry_of(path.name, facts)
        if entry.is_directory:
            raise NotFound(f"/{path}: it was replaced meanwhile")
    except StorageError:
        session.close_handle(handle)
        raise
    return OpenFile(session, handle, facts, entry, versions)
