"""The packets of SFTP, version 3: numbers, strings and attributes as bytes (draft-ietf-secsh-filexfer-02).

One codec for both sides, the client that is a storage and the server that is a door. OpenSSH speaks this version and no
other; its extensions are in its file PROTOCOL.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag

VERSION_SPOKEN = 3
LATEST = (1 << 32) - 1  # seconds since 1970: the wire has 32 bits for them


class Type(IntEnum):
    """What a packet is (section 3)."""

    INIT = 1
    VERSION = 2
    OPEN = 3
    CLOSE = 4
    READ = 5
    WRITE = 6
    LSTAT = 7
    FSTAT = 8
    SETSTAT = 9
    FSETSTAT = 10
    OPENDIR = 11
    READDIR = 12
    REMOVE = 13
    MKDIR = 14
    RMDIR = 15
    REALPATH = 16
    STAT = 17
    RENAME = 18
    READLINK = 19
    SYMLINK = 20
    STATUS = 101
    HANDLE = 102
    DATA = 103
    NAME = 104
    ATTRS = 105
    EXTENDED = 200
    EXTENDED_REPLY = 201


class Status(IntEnum):
    """How a request ended (section 7)."""

    OK = 0
    EOF = 1
    NO_SUCH_FILE = 2
    PERMISSION_DENIED = 3
    FAILURE = 4
    BAD_MESSAGE = 5
    NO_CONNECTION = 6
    CONNECTION_LOST = 7
    OP_UNSUPPORTED = 8


class Open(IntFlag):
    """How a file is opened (section 6.3)."""

    READ = 0x01
    WRITE = 0x02
    APPEND = 0x04
    CREATE = 0x08
    TRUNCATE = 0x10
    EXCLUSIVE = 0x20


class Malformed(Exception):
    """A packet that is not what the draft says; the two sides do not understand each other."""


# Which attributes follow (section 5)
HAS_SIZE, HAS_OWNER, HAS_MODE, HAS_TIMES, HAS_MORE = 0x1, 0x2, 0x4, 0x8, 0x8000_0000
_PAIRS_MOST = 100  # extended attributes that are read over; nobody sends any
_U32, _2U32, _U64 = struct.Struct(">I"), struct.Struct(">II"), struct.Struct(">Q")


@dataclass(frozen=True, slots=True)
class Attributes:
    """What is told or asked of a file (section 5), None where it is not.

    `mode` is as st_mode, and `modified` in seconds since 1970; the time of access is not read, and said to be the same.
    """

    size: int | None = None
    owner: tuple[int, int] | None = None
    mode: int | None = None
    modified: int | None = None

    def to_bytes(self) -> bytes:
        """Return them as they stand in a packet."""
        flags, fields = 0, b""
        if self.size is not None:
            flags, fields = flags | HAS_SIZE, _U64.pack(self.size)
        if self.owner is not None:
            flags, fields = flags | HAS_OWNER, fields + _2U32.pack(*self.owner)
        if self.mode is not None:
            flags, fields = flags | HAS_MODE, fields + _U32.pack(self.mode)
        if self.modified is not None:
            flags, fields = flags | HAS_TIMES, fields + 2 * _U32.pack(seconds(self.modified))
        return _U32.pack(flags) + fields


def seconds(time: int) -> int:
    """Return a time as it can be told: from 1970 to LATEST."""
    return min(max(time, 0), LATEST)


def u32(number: int) -> bytes:
    return _U32.pack(number)


def u64(number: int) -> bytes:
    return _U64.pack(number)


def string(data: bytes) -> bytes:
    return _U32.pack(len(data)) + data


class Fields:
    """The fields of a packet, taken one after the other; each raises `malformed` where the packet ends too early."""

    __slots__ = ("_data", "_position")

    def __init__(self, data: bytes | memoryview, position: int = 0) -> None:
        self._data = memoryview(data)
        self._position = position

    def malformed(self, what: str) -> Exception:
        """Return the error for a packet that is none."""
        return Malformed(what)

    def u32(self) -> int:
        return self._number(_U32)

    def u64(self) -> int:
        return self._number(_U64)

    def string(self) -> bytes:
        return bytes(self.view())

    def view(self) -> memoryview:
        """Return a string without copying it."""
        size = self._number(_U32)
        begin, self._position = self._position, self._position + size
        if self._position > len(self._data):
            raise self.malformed("a string is longer than its packet")
        return self._data[begin : self._position]

    def attributes(self) -> Attributes:
        flags = self.u32()
        size = self.u64() if flags & HAS_SIZE else None
        owner = (self.u32(), self.u32()) if flags & HAS_OWNER else None
        mode = self.u32() if flags & HAS_MODE else None
        _, modified = (self.u32(), self.u32()) if flags & HAS_TIMES else (None, None)
        count = self.u32() if flags & HAS_MORE else 0
        if count > _PAIRS_MOST:
            raise self.malformed(f"{count} extended attributes")
        for _ in range(2 * count):
            self.view()
        return Attributes(size, owner, mode, modified)

    def end(self) -> None:
        """Make sure that nothing follows."""
        if self._position != len(self._data):
            raise self.malformed("a packet is longer than what it says")

    def _number(self, form: struct.Struct) -> int:
        try:
            number: int = form.unpack_from(self._data, self._position)[0]
        except struct.error:
            raise self.malformed("a packet ends too early") from None
        self._position += form.size
        return number
