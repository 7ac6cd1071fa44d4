"""The wire of SFTP, version 3: numbers, strings and attributes of files as bytes (draft-ietf-secsh-filexfer-02).

paramiko's own client decodes names and drops the extensions that a server offers; both are needed here.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from backends.errors import Unavailable

# Packet types (section 3)
INIT, VERSION, OPEN, CLOSE, READ, WRITE, LSTAT, FSTAT, SETSTAT, FSETSTAT, OPENDIR, READDIR, REMOVE, MKDIR, RMDIR = (
    range(1, 16)
)
REALPATH, STAT, RENAME = 16, 17, 18
STATUS, HANDLE, DATA, NAME, ATTRS = range(101, 106)
EXTENDED, EXTENDED_REPLY = 200, 201

# What a request is answered with unless it is refused; others only with a status
ANSWERS = {
    OPEN: HANDLE,
    OPENDIR: HANDLE,
    READ: DATA,
    READDIR: NAME,
    REALPATH: NAME,
    LSTAT: ATTRS,
    STAT: ATTRS,
    FSTAT: ATTRS,
}

# Flags of OPEN (section 6.3)
FOR_READING, FOR_WRITING, CREATE, EXCLUSIVE = 0x01, 0x02, 0x08, 0x20

_SIZE, _OWNER, _MODE, _TIMES, _MORE = 0x1, 0x2, 0x4, 0x8, 0x8000_0000  # flags of attributes (section 5)
_U32, _U64 = struct.Struct(">I"), struct.Struct(">Q")
LATEST = (1 << 32) - 1  # seconds since the epoch: the wire has 32 bits for them


@dataclass(frozen=True, slots=True)
class Attributes:
    """What a server tells of a file, None where it does not; `modified` in seconds since 1970, `mode` as st_mode."""

    size: int | None = None
    owner: tuple[int, int] | None = None
    mode: int | None = None
    modified: int | None = None

    def to_set(self) -> bytes:
        """Return them as a request carries them; the time of access is set to that of modification."""
        flags, fields = 0, b""
        if self.size is not None:
            flags, fields = _SIZE, u64(self.size)
        if self.owner is not None:
            flags, fields = flags | _OWNER, fields + u32(self.owner[0]) + u32(self.owner[1])
        if self.mode is not None:
            flags, fields = flags | _MODE, fields + u32(self.mode)
        if self.modified is not None:
            flags, fields = flags | _TIMES, fields + 2 * u32(self.modified)
        return u32(flags) + fields


def u32(number: int) -> bytes:
    return _U32.pack(number)


def u64(number: int) -> bytes:
    return _U64.pack(number)


def string(data: bytes) -> bytes:
    return _U32.pack(len(data)) + data


class Fields:
    """The fields of an answer, taken one after the other; each raises Unavailable where the packet ends too early."""

    __slots__ = ("_data", "_position")

    def __init__(self, data: bytes, position: int = 0) -> None:
        self._data = data
        self._position = position

    def u32(self) -> int:
        return self._number(_U32)

    def u64(self) -> int:
        return self._number(_U64)

    def string(self) -> bytes:
        size = self.u32()
        begin, self._position = self._position, self._position + size
        if self._position > len(self._data):
            raise _cut_short()
        return self._data[begin : self._position]

    def attributes(self) -> Attributes:
        flags = self.u32()
        size = self.u64() if flags & _SIZE else None
        owner = (self.u32(), self.u32()) if flags & _OWNER else None
        mode = self.u32() if flags & _MODE else None
        modified = (self.u32(), self.u32())[1] if flags & _TIMES else None
        for _ in range(self.u32() if flags & _MORE else 0):
            self.string()
            self.string()
        return Attributes(size, owner, mode, modified)

    def pairs(self) -> dict[bytes, bytes]:
        """Return the names and values that fill the rest."""
        found: dict[bytes, bytes] = {}
        while self._position < len(self._data):
            name = self.string()
            found[name] = self.string()
        return found

    def _number(self, form: struct.Struct) -> int:
        try:
            (number,) = form.unpack_from(self._data, self._position)
        except struct.error as error:
            raise _cut_short() from error
        self._position += form.size
        return int(number)


def _cut_short() -> Unavailable:
    return Unavailable("the server sends packets that are no SFTP")
