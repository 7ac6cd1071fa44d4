"""Every request of SFTP but READ and WRITE: what is read of its packet, what is done, and the answer.

Sources: draft-ietf-secsh-filexfer-02 sections 6 and 7; the extensions are OpenSSH's (its file PROTOCOL, section 4).
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType

from backends.errors import NotFound
from backends.paths import StoragePath
from backends.sftp_packets import Attributes, Fields, Open, Status, Type
from gateway.ssh import attributes, paths, wire
from gateway.ssh.audit import Audit
from gateway.ssh.copying import Copying
from gateway.ssh.errors import SftpError, unsupported
from gateway.ssh.framing import PACKET_MAX
from gateway.ssh.handles import Handles
from gateway.ssh.listing import Listing
from gateway.ssh.reading import Reading
from gateway.ssh.workspace import Found, Workspace
from gateway.ssh.writing import Writing

DATA_MAX = 255 * 1024  # bytes of one READ or WRITE; the most that OpenSSH's clients ask for
BLOCK = 4096  # bytes, in which the room on a storage is told

# What is offered in VERSION, with the versions that OpenSSH gives them
EXTENSIONS: Mapping[bytes, bytes] = MappingProxyType(
    {
        b"posix-rename@openssh.com": b"1",
        b"statvfs@openssh.com": b"2",
        b"fstatvfs@openssh.com": b"2",
        b"fsync@openssh.com": b"1",
        b"lsetstat@openssh.com": b"1",
        b"limits@openssh.com": b"1",
        b"expand-path@openssh.com": b"1",
        b"copy-data": b"1",
    }
)

Answer = Callable[[bytes, Fields], Awaitable[bytes]]


class Requests:
    """Answers the requests of one session."""

    def __init__(
        self, workspace: Workspace, handles: Handles, audit: Audit, most: int, is_lost: Callable[[], bool]
    ) -> None:
        """Tell that at most `most` handles may be open; `is_lost` tells whether the client is gone."""
        self._workspace = workspace
        self._audit = audit
        self._copying = Copying(workspace, is_lost)
        self._handles = handles
        self._most = most
        self._answers: Mapping[int, Answer] = {
            Type.OPEN: self._open,
            Type.CLOSE: self._close,
            Type.LSTAT: self._lstat,
            Type.STAT: self._stat,
            Type.FSTAT: self._fstat,
            Type.SETSTAT: self._setstat,
            Type.FSETSTAT: self._fsetstat,
            Type.OPENDIR: self._opendir,
            Type.READDIR: self._readdir,
            Type.REMOVE: self._remove,
            Type.MKDIR: self._mkdir,
            Type.RMDIR: self._rmdir,
            Type.REALPATH: self._realpath,
            Type.RENAME: self._rename,
            Type.READLINK: self._readlink,
            Type.SYMLINK: self._symlink,
            Type.EXTENDED: self._extended,
        }
        self._extensions: Mapping[bytes, Answer] = {
            b"posix-rename@openssh.com": self._posix_rename,
            b"hardlink@openssh.com": self._symlink,
            b"statvfs@openssh.com": self._statvfs,
            b"fstatvfs@openssh.com": self._fstatvfs,
            b"fsync@openssh.com": self._fsync,
            b"lsetstat@openssh.com": self._setstat,
            b"limits@openssh.com": self._limits,
            b"expand-path@openssh.com": self._realpath,
            b"copy-data": self._copy_data,
        }

    async def answer(self, kind: int, request: bytes, fields: Fields) -> bytes:
        """Return the answer's packet without its length; raises one of REFUSALS."""
        answer = self._answers.get(kind)
        if answer is None:
            raise unsupported(f"There is no request {kind} in version 3")
        await self._workspace.grant()
        return await answer(request, fields)

    async def _extended(self, request: bytes, fields: Fields) -> bytes:
        answer = self._extensions.get(fields.string())
        if answer is None:
            raise unsupported("This extension is not offered")
        return await answer(request, fields)

    # --- files --------------------------------------------------------------------------------------------------

    async def _open(self, request: bytes, fields: Fields) -> bytes:
        name, flags = fields.string(), Open(fields.u32() & 0x3F)
        fields.attributes()
        fields.end()
        path = paths.parse(name)
        self._handles.require_room()
        if paths.means_folder(name):
            await self._workspace.require_folder(path)
        handle: Reading | Writing
        if flags & (Open.WRITE | Open.APPEND):
            handle = await Writing.open(self._workspace, path, flags)
        else:
            handle = await Reading.open(self._workspace, path)
        return wire.handle(request, self._handles.add(handle))

    async def _close(self, request: bytes, fields: Fields) -> bytes:
        name = _last_string(fields)
        await self._handles.close(name)
        return wire.status(request, Status.OK)

    async def _fsync(self, request: bytes, fields: Fields) -> bytes:
        handle = self._handles.get(_last_string(fields))
        if isinstance(handle, Writing):
            await handle.sync()
        return wire.status(request, Status.OK)

    async def _copy_data(self, request: bytes, fields: Fields) -> bytes:
        source, begin, size = self._handles.get(fields.string()), min(fields.u64(), wire.PLACE_MAX), fields.u64()
        target, to = self._handles.get(fields.string()), fields.u64()
        fields.end()
        await self._copying.copy(source, begin, size, target, to)
        return wire.status(request, Status.OK)

    # --- attributes ---------------------------------------------------------------------------------------------

    async def _lstat(self, request: bytes, fields: Fields) -> bytes:
        path = paths.parse(_last_string(fields))
        writing = self._handles.being_written(path)
        found = Found(writing.entry, may_write=True) if writing else await self._workspace.look(path)
        return _shown(request, found)

    async def _stat(self, request: bytes, fields: Fields) -> bytes:
        path = paths.parse(_last_string(fields))
        writing = self._handles.being_written(path)
        if writing is not None:
            return _shown(request, Found(writing.entry, may_write=True))
        try:
            found = await self._workspace.look(path)
        except NotFound:
            unfinished = await self._workspace.unfinished(path)
            if unfinished is None:
                raise
            found = unfinished
        return _shown(request, found)

    async def _fstat(self, request: bytes, fields: Fields) -> bytes:
        handle = self._handles.get(_last_string(fields))
        return _shown(request, Found(handle.entry, handle.may_write))

    async def _setstat(self, request: bytes, fields: Fields) -> bytes:
        path, wanted = paths.parse(fields.string()), fields.attributes()
        fields.end()
        writing = self._handles.being_written(path)
        if writing is not None:
            await _set_on(writing, wanted)
            return wire.status(request, Status.OK)
        if wanted.size is not None:
            await self._resize(path, wanted.size)
            self._audit.did("resized", path=str(path), size=wanted.size)
        if wanted.modified is not None:
            await self._workspace.set_modified(path, wanted.modified * attributes.NS)
            self._audit.did("dated", path=str(path), modified=wanted.modified)
        elif wanted.size is None:
            await self._require_as_it_is(path, wanted)
        return wire.status(request, Status.OK)

    async def _fsetstat(self, request: bytes, fields: Fields) -> bytes:
        handle, wanted = self._handles.get(fields.string()), fields.attributes()
        fields.end()
        if not isinstance(handle, Writing):
            raise SftpError(Status.PERMISSION_DENIED, "NOT_OPEN_FOR_WRITING", "The file was opened for reading")
        await _set_on(handle, wanted)
        return wire.status(request, Status.OK)

    async def _resize(self, path: StoragePath, size: int) -> None:
        if (await self._workspace.look(path)).entry.size == size:
            return
        writing = await Writing.open(self._workspace, path, Open.WRITE)
        try:
            await writing.truncate(size)
            await writing.close()
        except BaseException:
            await writing.drop()
            raise

    async def _require_as_it_is(self, path: StoragePath, wanted: Attributes) -> None:
        """Refuse a change of permissions or owner: they are the storage's own; raises SftpError, NotFound.

        A mode for a folder that may be filled is taken and changes nothing: OpenSSH's clients send one with each folder
        that they copy (sftp-client.c, upload_dir_internal), and would say of each that it has failed.
        """
        found = await self._workspace.look(path)
        now = attributes.shown(found.entry, may_write=found.may_write)
        is_other = wanted.mode is not None and bool((wanted.mode ^ (now.mode or 0)) & 0o777)
        is_copied = found.entry.is_directory and found.may_write
        if wanted.owner is not None or (is_other and not is_copied):
            raise unsupported("Permissions and owners are the storage's own here; they stay as they are")

    # --- folders and names --------------------------------------------------------------------------------------

    async def _opendir(self, request: bytes, fields: Fields) -> bytes:
        path = paths.parse(_last_string(fields))
        self._handles.require_room()
        listing = await Listing.open(self._workspace, path)
        return wire.handle(request, self._handles.add(listing))

    async def _readdir(self, request: bytes, fields: Fields) -> bytes:
        handle = self._handles.get(_last_string(fields))
        if not isinstance(handle, Listing):
            raise SftpError(Status.FAILURE, "NOT_A_FOLDER", "This handle is a file's")
        entries = await handle.next()
        if not entries:
            return wire.status(request, Status.EOF, "End of folder")
        return attributes.names(request, entries, time.time(), may_write=handle.may_write)

    async def _remove(self, request: bytes, fields: Fields) -> bytes:
        path = paths.parse(_last_string(fields))
        try:
            await self._workspace.remove_file(path)
        except NotFound:
            self._require_closed(path)
            if not await self._workspace.forget_unfinished(path):
                raise
        self._audit.did("removed", path=str(path))
        return wire.status(request, Status.OK)

    async def _rmdir(self, request: bytes, fields: Fields) -> bytes:
        path = paths.parse(_last_string(fields))
        await self._workspace.remove_directory(path)
        self._audit.did("folder.removed", path=str(path))
        return wire.status(request, Status.OK)

    async def _mkdir(self, request: bytes, fields: Fields) -> bytes:
        path = paths.parse(fields.string())
        fields.attributes()
        fields.end()
        await self._workspace.make_directory(path)
        self._audit.did("folder.made", path=str(path))
        return wire.status(request, Status.OK)

    async def _realpath(self, request: bytes, fields: Fields) -> bytes:
        return wire.name(request, paths.absolute(paths.parse(paths.without_home(_last_string(fields)))))

    async def _rename(self, request: bytes, fields: Fields) -> bytes:
        return await self._move(request, fields, overwrite=False)

    async def _posix_rename(self, request: bytes, fields: Fields) -> bytes:
        return await self._move(request, fields, overwrite=True)

    async def _move(self, request: bytes, fields: Fields, *, overwrite: bool) -> bytes:
        source, target = paths.parse(fields.string()), paths.parse(fields.string())
        fields.end()
        try:
            await self._workspace.rename(source, target, overwrite=overwrite)
        except NotFound:
            self._require_closed(source)
            raise
        self._audit.did("renamed", path=str(source), to=str(target))
        return wire.status(request, Status.OK)

    def _require_closed(self, path: StoragePath) -> None:
        """Say of what is not there why, if it is this session's own new file, which STAT shows it; raises SftpError."""
        if self._handles.being_written(path) is not None:
            sentence = "You are writing this file, and it is not there before you close it; close it first"
            raise SftpError(Status.FAILURE, "NOT_CLOSED", sentence)

    async def _readlink(self, _request: bytes, fields: Fields) -> bytes:
        await self._workspace.look(paths.parse(_last_string(fields)))
        raise SftpError(Status.FAILURE, "NOT_A_LINK", "This is no link; links are shown as what they lead to")

    async def _symlink(self, _request: bytes, _fields: Fields) -> bytes:
        raise unsupported("Links are not made here; copy the file, or share the folder that it is in")

    # --- what the storage and this server are like --------------------------------------------------------------

    async def _statvfs(self, request: bytes, fields: Fields) -> bytes:
        return await self._space(request, paths.parse(_last_string(fields)))

    async def _fstatvfs(self, request: bytes, fields: Fields) -> bytes:
        return await self._space(request, self._handles.get(_last_string(fields)).path)

    async def _space(self, request: bytes, path: StoragePath) -> bytes:
        space = await self._workspace.space(path)
        free, total = space.free // BLOCK, space.total // BLOCK
        files = name_max = 255
        # Block and fragment size; blocks: all, free, free to this client; files alike; file system, flags, longest name
        numbers = (BLOCK, BLOCK, total, free, free, files, files, files, 0, 0, name_max)
        return wire.numbers(request, numbers)

    async def _limits(self, request: bytes, fields: Fields) -> bytes:
        fields.end()
        numbers = (PACKET_MAX, DATA_MAX, DATA_MAX, self._most)
        return wire.numbers(request, numbers)


async def _set_on(writing: Writing, wanted: Attributes) -> None:
    """Set what there is to set of a file that is being written; `put -p` asks for permissions too, which stay."""
    if wanted.size is not None:
        await writing.truncate(wanted.size)
    if wanted.modified is not None:
        writing.set_modified(wanted.modified * attributes.NS)


def _shown(request: bytes, found: Found) -> bytes:
    return wire.attributes(request, attributes.shown(found.entry, may_write=found.may_write))


def _last_string(fields: Fields) -> bytes:
    found = fields.string()
    fields.end()
    return found
