"""The answers of SFTP, version 3, as the door writes them; what both sides know is in `backends/sftp_packets.py`."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from backends.sftp_packets import HAS_MODE, HAS_SIZE, HAS_TIMES, Attributes, Status, Type, string, u32, u64

PLACE_MAX = 2**62  # bytes, from where is read at most; with what is read from there it is still an off_t

_COMMON, _HAS_COMMON = struct.Struct(">IQIII"), HAS_SIZE | HAS_MODE | HAS_TIMES
_STATUS, _DATA = struct.Struct(">B4sI"), struct.Struct(">IB4sI")
_BYTE = {kind: bytes((kind,)) for kind in Type}
_ENGLISH = string(b"en")


def status(request: bytes, code: Status, sentence: str = "") -> bytes:
    """Return the answer that is only a status; clients show `sentence`, as version 3 has few codes."""
    return _STATUS.pack(Type.STATUS, request, code) + string(sentence.encode("utf-8", "replace")) + _ENGLISH


def handle(request: bytes, name: bytes) -> bytes:
    return _BYTE[Type.HANDLE] + request + string(name)


def attributes(request: bytes, found: Attributes) -> bytes:
    return _BYTE[Type.ATTRS] + request + found.to_bytes()


def name(request: bytes, found: bytes) -> bytes:
    """Return the answer to REALPATH: one name, of which nothing else is said."""
    return names_head(request, 1) + string(found) + string(found) + Attributes().to_bytes()


def names_head(request: bytes, count: int) -> bytes:
    """Return what stands before the `count` entries of an answer to READDIR."""
    return _BYTE[Type.NAME] + request + u32(count)


def common(size: int, mode: int, modified: int) -> bytes:
    """Return the attributes that every entry has; the time of access is that of modification."""
    return _COMMON.pack(_HAS_COMMON, size, mode, modified, modified)


def data_head(request: bytes, size: int) -> bytes:
    """Return what stands before the `size` bytes of an answer to READ, the packet's own length included."""
    return _DATA.pack(9 + size, Type.DATA, request, size)


def numbers(request: bytes, found: Iterable[int]) -> bytes:
    """Return the answer to what OpenSSH's extensions ask in numbers of 64 bits."""
    return b"".join((_BYTE[Type.EXTENDED_REPLY], request, *map(u64, found)))


packet = string  # its length stands before it, as that of a string does
