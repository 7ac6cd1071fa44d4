"""Changes of names: onto free ones without replacing, durable where a file has the name."""

from __future__ import annotations

import secrets
from contextlib import AbstractContextManager, nullcontext

from backends.errors import NotFound, PermissionDenied, StorageError, Unavailable
from backends.name_locks import NameLocks
from backends.paths import StoragePath, printable
from backends.sftp.session import FSYNC, POSIX_RENAME, Session
from backends.sftp_packets import Attributes, Open, Type, string, u32

_DIRECTORIES = b""  # no place in a tree: a lock for all changes of directories' names


def steady(session: Session, locks: NameLocks[bytes]) -> AbstractContextManager[None]:
    """Keep directories where they are while a name is replaced in two steps, and that from one that is renamed.

    Else what is aside would move away with its directory. Only this process is held up, and only on such a server.
    """
    return nullcontext() if session.offers(POSIX_RENAME) else locks.held(_DIRECTORIES)


def rename_to_free_name(session: Session, path: StoragePath, source: bytes, target: bytes) -> None:
    """Rename without replacing anything; raises Failure where the name is taken.

    OpenSSH links and unlinks a file, so that nobody can come in between; a directory is looked for first.
    """
    session.ask(f"/{path}", Type.RENAME, string(source), string(target))


def replace(session: Session, path: StoragePath, source: bytes, target: bytes, hidden: bytes) -> None:
    """Rename over what has the name `target`: in one step where the server can (posix-rename), else in two.

    In the latter case a reader may find nothing for a moment, and a crash in it leaves the old content under the
    name `HIDDENold-...` beside it, which is never swept.
    """
    if session.offers(POSIX_RENAME):
        session.ask(f"/{path}", Type.EXTENDED, string(POSIX_RENAME), string(source), string(target))
        return
    directory = target.rpartition(b"/")[0]
    aside = directory + b"/" + hidden + b"old-" + secrets.token_hex(8).encode()
    rename_to_free_name(session, path, target, aside)
    try:
        rename_to_free_name(session, path, source, target)
    except StorageError as error:
        try:
            rename_to_free_name(session, path, aside, target)
        except StorageError:
            raise Unavailable(f"{session.name}: /{path}: the old content is at {printable(aside)} now") from error
        raise
    session.ask(f"/{path}", Type.REMOVE, string(aside))


def make_name_durable(session: Session, path: StoragePath, place: bytes) -> None:
    """Let the server write out a file once more after its name was changed; raises Unavailable.

    SFTP has no fsync of directories. On ext4, XFS and btrfs that of a file also writes out the change of its name,
    which belongs to the same transaction or an earlier one. A server that does not offer it can be asked no more.
    """
    if not session.offers(FSYNC):
        return
    opening = string(place), u32(Open.READ), Attributes().to_bytes()
    try:
        handle = string(session.ask(f"/{path}", Type.OPEN, *opening).string())
    except (NotFound, PermissionDenied):  # replaced or removed by another meanwhile, or not ours to read
        return
    session.all_of(f"/{path}", [(Type.EXTENDED, string(FSYNC) + handle), (Type.CLOSE, handle)])
