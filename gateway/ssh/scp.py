"""SCP, the protocol of `scp -O` and of older clients, as the far end of a command `scp -t` or `scp -f`.

There is no document; what is here is what OpenSSH's scp.c says and expects. Of a file that comes, only the byte by
which its sender says that it was sent whole lets it be committed; without that nothing of it is kept.

    T<modified> 0 <accessed> 0      times of what follows (-p)
    C<mode> <size> <name>           a file, then its bytes and a 0
    D<mode> 0 <name>, E             a folder begins and ends (-r)
    0, 1<text>, 2<text>             an answer: go on, this one has failed, all has failed
"""

from __future__ import annotations

import asyncio
import contextlib
import fnmatch
import re
import shlex
from dataclasses import dataclass
from typing import NamedTuple

import structlog

from backends.errors import AlreadyExists, InvalidPath, NotFound, Unsupported
from backends.interface import Entry
from backends.paths import StoragePath
from backends.sftp_packets import Open
from gateway.ssh import attributes, paths
from gateway.ssh.audit import Audit
from gateway.ssh.errors import REFUSALS, translate
from gateway.ssh.listing import Listing
from gateway.ssh.reading import Reading
from gateway.ssh.stream import Lost, Stream
from gateway.ssh.workspace import Workspace
from gateway.ssh.writing import Writing

PIECE = 256 * 1024  # bytes
LINE_MAX = 8192  # bytes of what is said about a file
TIME_MAX = 2**33  # seconds since 1970: the year 2242; 64 bits hold nanoseconds until 2262
DEPTH_MAX = 2048  # folders within each other; no path has more names
OK = b"\0"

_ABOUT = re.compile(rb"([CD])([0-7]{4,6}) ([0-9]{1,19}) (.+)", re.DOTALL)
_TIMES = re.compile(rb"T([0-9]{1,19}) [0-9]{1,9} ([0-9]{1,19}) [0-9]{1,9}")
_NEW = Open.WRITE | Open.CREATE | Open.TRUNCATE

log = structlog.get_logger()


class ScpError(Exception):
    """What ends the conversation: the sentence goes to the client."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command says: take files or give them, which, and how."""

    takes: bool
    path: bytes
    recursive: bool = False
    times: bool = False
    into_folder: bool = False


class _Folder(NamedTuple):
    """A folder that a client fills, and the time that it is to have afterwards."""

    path: StoragePath
    modified: int | None = None


def parse_command(command: str) -> Asked:
    """Return what `scp -t` or `scp -f` asks for; raises ScpError for every other command."""
    try:
        words = shlex.split(command) if len(command) <= LINE_MAX else []
    except ValueError:
        words = []
    if not words or words[0] != "scp":
        raise ScpError("only scp and sftp are served here")
    options, operands = "", []
    for position, word in enumerate(words[1:], 2):
        if word == "--":
            operands += words[position:]
            break
        if word.startswith("-") and len(word) > 1:
            options += word[1:]
        else:
            operands.append(word)
    if len(operands) != 1 or set(options) - set("tfrpdvq") or ("t" in options) is ("f" in options):
        raise ScpError("this form of scp is not served here")
    path = paths.without_home(operands[0].encode("utf-8", "surrogateescape"))
    return Asked("t" in options, path, "r" in options, "p" in options, "d" in options)


class Scp:
    """One conversation."""

    is_idle = False

    def __init__(self, stream: Stream, workspace: Workspace, audit: Audit, asked: Asked) -> None:
        self._stream = stream
        self._workspace = workspace
        self._audit = audit
        self._asked = asked
        self._held = bytearray()

    async def run(self) -> None:
        """Serve until all is done; raises Lost when the client goes before that, ScpError for what is no SCP."""
        try:
            await (self._take() if self._asked.takes else self._give())
        except (ScpError, *REFUSALS) as error:
            sentence = _sentence(error)
            with contextlib.suppress(Lost):
                await self._say(2, sentence)
            raise ScpError(sentence) from error

    # --- taking -------------------------------------------------------------------------------------------------

    async def _take(self) -> None:
        top = paths.parse(self._asked.path)
        is_folder = await self._is_folder(top)
        if self._asked.into_folder and not is_folder:
            raise ScpError(f"{top}: not a directory")
        await self._stream.write(OK)
        folders: list[_Folder] = [_Folder(top)] if is_folder else []
        times: int | None = None
        while (line := await self._line()) is not None:
            if line[:1] == b"T":
                times = self._modified(line)
                await self._stream.write(OK)
            elif line == b"E":
                if len(folders) <= is_folder:
                    raise ScpError("a folder ends that has not begun")
                await self._end_folder(folders.pop())
            elif line[:1] in (b"\1", b"\2"):
                log.info("scp.told", principal=self._workspace.principal, code=line[0])
                if line[:1] == b"\2":
                    return
            else:
                folders = await self._take_one(line, folders, top, times)
                times = None

    async def _take_one(
        self, line: bytes, folders: list[_Folder], top: StoragePath, modified: int | None
    ) -> list[_Folder]:
        """Take a file, or begin a folder; return the folders that are open then."""
        found = _ABOUT.fullmatch(line)
        if found is None:
            raise ScpError("this is no SCP")
        kind, _, size, name = found.groups()
        path = _inside(folders[-1].path, name) if folders else top
        if kind == b"C" and not folders and paths.means_folder(self._asked.path):
            await self._say(1, f"{top}: Not a directory")
            return folders
        if kind == b"C":
            await self._take_file(path, int(size), modified)
            return folders
        if not self._asked.recursive or len(folders) >= DEPTH_MAX:
            raise ScpError("folders come with -r only")
        try:
            await self._workspace.make_directory(path)
            self._audit.did("folder.made", path=str(path))
        except AlreadyExists:
            pass
        except REFUSALS as error:
            raise ScpError(f"{path}: {translate(error)}") from error
        await self._stream.write(OK)
        return [*folders, _Folder(path, modified)]

    async def _end_folder(self, folder: _Folder) -> None:
        """Set the time of a folder, which nothing more comes into, where the storage keeps such."""
        try:
            if folder.modified is not None:
                await self._workspace.set_modified(folder.path, folder.modified)
                self._audit.did("dated", path=str(folder.path), modified=folder.modified // attributes.NS)
        except Unsupported:
            pass
        except REFUSALS as error:
            await self._say(1, f"{folder.path}: {translate(error)}")
            return
        await self._stream.write(OK)

    async def _take_file(self, path: StoragePath, size: int, modified: int | None) -> None:
        """Take the bytes of a file in any case, as its sender goes on sending; say at the end what was wrong."""
        writing: Writing | None = None
        failed: Exception | None = None
        try:
            writing = await Writing.open(self._workspace, path, _NEW)
        except REFUSALS as error:
            await self._say(1, f"{path}: {translate(error)}")  # in the place of the go-ahead: nothing is sent then
            return
        self._audit.opened(writing)
        await self._stream.write(OK)
        try:
            left, offset = size, 0
            while left:
                piece = await self._some(left)
                if failed is None:
                    try:
                        await self._workspace.require_writing()
                        await writing.write(offset, [memoryview(piece)])
                    except REFUSALS as error:
                        failed = error
                left, offset = left - len(piece), offset + len(piece)
            if not await self._is_whole():
                failed = ScpError("the sender could not read all of it; nothing was stored")
            if failed is None:
                if modified is not None:
                    writing.set_modified(modified)
                try:
                    await writing.close()
                except REFUSALS as error:
                    failed = error
        except BaseException as error:
            self._audit.ended(writing, error)
            await asyncio.shield(asyncio.ensure_future(_forget(writing)))
            raise
        self._audit.ended(writing, failed)
        if failed is not None:
            await _forget(writing)
            await self._say(1, f"{path}: {_sentence(failed)}")
        else:
            await self._stream.write(OK)

    async def _is_whole(self) -> bool:
        """Tell what its sender says at the end of a file; raises ScpError where it says nothing of the kind."""
        code = await self._exactly(1)
        if code in (b"\1", b"\2"):
            await self._line()
            return False
        if code != OK:
            raise ScpError("this is no SCP: a file has more bytes than it was said to have")
        return True

    def _modified(self, line: bytes) -> int:
        found = _TIMES.fullmatch(line)
        if found is None:
            raise ScpError("this is no SCP")
        return min(int(found[1]), TIME_MAX) * attributes.NS

    # --- giving -------------------------------------------------------------------------------------------------

    async def _give(self) -> None:
        await self._answered()
        for path in await self._meant(self._asked.path):
            await self._give_one(path)

    async def _give_one(self, path: StoragePath) -> None:
        """Give a file, or with -r a folder with all that is in it; say what could not be given, and go on."""
        pending: list[StoragePath | None] = [path]  # None: a folder ends
        while pending:
            here = pending.pop()
            if here is None:
                await self._stream.write(b"E\n")
                await self._answered()
                continue
            if b"\n" in here.name:  # its end would be taken for a line of its own, which could say anything
                await self._say(1, f"{here}: scp cannot send a name of two lines; use sftp")
                continue
            try:
                entry = (await self._workspace.look(here)).entry
                if not entry.is_directory:
                    await self._give_file(here)
                elif self._asked.recursive:
                    pending += await self._begin_folder(here, entry)
                else:
                    await self._say(1, f"{here}: not a regular file")
            except REFUSALS as error:
                await self._say(1, f"{here}: {translate(error)}")

    async def _begin_folder(self, path: StoragePath, entry: Entry) -> list[StoragePath | None]:
        """Return what is still to be given of a folder, the last first."""
        inside = [path.child(name) for name in await self._names(path)]
        await self._about(b"D", entry, 0, path.name or self._workspace.name)
        return [None, *reversed(inside)] if await self._answered() else []

    async def _give_file(self, path: StoragePath) -> None:
        reading = await Reading.open(self._workspace, path)
        self._audit.opened(reading)
        failed: BaseException | None = None
        try:
            size = reading.entry.size
            await self._about(b"C", reading.entry, size, path.name)
            if not await self._answered():
                return
            await self._give_bytes(reading, size)
            await self._stream.write(OK)
            await self._answered()
        except BaseException as error:
            failed = error
            raise
        finally:
            self._audit.ended(reading, failed)
            await asyncio.shield(asyncio.ensure_future(reading.drop()))

    async def _give_bytes(self, reading: Reading, size: int) -> None:
        """Give exactly `size` bytes; raises Lost where that cannot be: there is no way to say so in between."""
        offset = 0
        while offset < size:
            try:
                await self._workspace.grant()
                data = await reading.read(offset, min(PIECE, size - offset))
            except REFUSALS as error:
                raise Lost(f"{translate(error)}") from error
            if not data:
                raise Lost("the file has become shorter")
            await self._stream.write(data)
            offset += len(data)

    async def _about(self, kind: bytes, entry: Entry, size: int, name: bytes) -> None:
        shown = attributes.shown(entry, may_write=True)
        if self._asked.times:
            seconds = max(0, entry.modified // attributes.NS)
            await self._stream.write(f"T{seconds} 0 {seconds} 0\n".encode())
            await self._answered()
        await self._stream.write(kind + f"{(shown.mode or 0) & 0o777:04o} {size} ".encode() + name + b"\n")

    async def _meant(self, path: bytes) -> list[StoragePath]:
        """Return what a path means, in the last part of which the shell that there is not would have read a pattern."""
        whole = paths.parse(path)
        if not re.search(rb"[*?\[]", whole.name):
            return [whole]
        with contextlib.suppress(NotFound):
            await self._workspace.look(whole)
            return [whole]
        try:
            names = sorted(await self._names(whole.parent, whole.name))
        except REFUSALS as error:
            raise ScpError(f"{whole.parent}: {translate(error)}") from error
        if not names:
            raise ScpError(f"{whole}: No such file or directory")
        return [whole.parent.child(name) for name in names]

    async def _names(self, path: StoragePath, pattern: bytes | None = None) -> list[bytes]:
        """Return the names in a folder, those that fit `pattern` where there is one; nothing else of it is kept."""
        listing, names = await Listing.open(self._workspace, path), []
        try:
            while batch := await listing.next():
                names += [one.name for one in batch if pattern is None or fnmatch.fnmatchcase(one.name, pattern)]
        finally:
            await listing.drop()
        return names

    async def _is_folder(self, path: StoragePath) -> bool:
        try:
            return (await self._workspace.look(path)).entry.is_directory
        except NotFound:
            return False
        except REFUSALS as error:
            raise ScpError(f"{path}: {translate(error)}") from error

    # --- the bytes ----------------------------------------------------------------------------------------------

    async def _say(self, code: int, sentence: str) -> None:
        shown = "".join(char if char.isprintable() else "?" for char in sentence)  # a terminal does what it reads
        await self._stream.write(bytes((code,)) + f"scp: {shown}\n".encode())

    async def _answered(self) -> bool:
        """Tell whether the client says to go on; raises ScpError when it ends everything, Lost when it is gone."""
        code = await self._exactly(1)
        if code == OK:
            return True
        sentence = await self._line()
        if code == b"\1":
            return False
        raise ScpError(f"the client has ended this: {sentence!r}")

    async def _line(self) -> bytes | None:
        """Return the next line without its end, None when the client has nothing more; raises ScpError, Lost."""
        await asyncio.sleep(0)  # lines may come faster than anybody else would have a turn
        while (end := self._held.find(b"\n", 0, LINE_MAX)) < 0:
            if len(self._held) > LINE_MAX:
                raise ScpError("this is no SCP: a line is too long")
            if not await self._more():
                if self._held:
                    raise Lost("the client is gone in the middle of a line")
                return None
        line = bytes(self._held[:end])
        del self._held[: end + 1]
        return line

    async def _exactly(self, size: int) -> bytes:
        while len(self._held) < size:
            if not await self._more():
                raise Lost("the client is gone")
        data = bytes(self._held[:size])
        del self._held[:size]
        return data

    async def _some(self, most: int) -> bytes:
        """Return some bytes, at most `most`, and in pieces that are worth a call of the storage."""
        while len(self._held) < min(most, PIECE):
            if not await self._more():
                raise Lost("the client is gone in the middle of a file")
        data = bytes(self._held[: min(most, 4 * PIECE)])
        del self._held[: len(data)]
        return data

    async def _more(self) -> bool:
        arrived = await self._stream.read()
        for data in arrived:
            self._held += data
        return bool(arrived)


async def _forget(writing: Writing) -> None:
    """Drop what has come, and keep nothing to be gone on with: it may be anything.

    A sender that cannot read a part sends as many other bytes, and says so when all are sent.
    """
    writing.fail(ScpError("nobody has said that this was sent whole"))
    await writing.drop()


def _sentence(error: Exception) -> str:
    return str(error if isinstance(error, ScpError) else translate(error))


def _inside(folder: StoragePath, name: bytes) -> StoragePath:
    """Return the place of `name` in a folder; a sender may not climb out of it (CVE-2018-20685)."""
    try:
        return folder.child(name)
    except InvalidPath as error:
        raise ScpError(f"unexpected file name: {name!r}") from error
