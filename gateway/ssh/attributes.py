"""Entries as SFTP shows them: attributes, and the line of `ls -l` that OpenSSH's client prints as it is."""

from __future__ import annotations

import stat
import time
from collections.abc import Iterable
from functools import lru_cache

from backends.interface import Entry
from backends.sftp_packets import Attributes, seconds, u32
from gateway.ssh import wire

NS = 1_000_000_000
_WRITING = 0o222
_DIRECTORY, _FILE = 0o755, 0o644  # where the storage knows no permissions
_HALF_A_YEAR = 182 * 24 * 3600  # seconds; ls shows the year instead of the hour from then on


def shown(entry: Entry, *, may_write: bool) -> Attributes:
    """Return what a client is told of `entry`; who may not write is shown no right to.

    Whose it is on the storage is not told: those accounts mean nothing to the client.
    """
    modified = entry.modified // NS
    return Attributes(size=entry.size, mode=_mode(entry, may_write), modified=modified)


def names(request: bytes, entries: Iterable[Entry], now: float, *, may_write: bool) -> bytes:
    """Return the answer to READDIR; it is made at once, as folders have many entries. Times are in UTC: the client's
    zone is not known."""
    parts: list[bytes] = []
    for entry in entries:
        name, mode, when = entry.name, _mode(entry, may_write), seconds(entry.modified // NS)
        line = b"%s %12d %s %s" % (_beginning(mode), entry.size, _date(when // 60, _is_recent(when, now)), name)
        parts += (u32(len(name)), name, u32(len(line)), line, wire.common(entry.size, mode, when))
    return wire.names_head(request, len(parts) // 5) + b"".join(parts)


def _mode(entry: Entry, may_write: bool) -> int:
    bits = entry.mode if entry.mode is not None else _DIRECTORY if entry.is_directory else _FILE
    kind = stat.S_IFDIR if entry.is_directory else stat.S_IFREG
    return kind | (bits if may_write else bits & ~_WRITING)


def _is_recent(when: int, now: float) -> bool:
    return 0 <= now - when < _HALF_A_YEAR


@lru_cache(maxsize=256)
def _beginning(mode: int) -> bytes:
    return f"{stat.filemode(mode)}    1 -        -       ".encode()


@lru_cache(maxsize=4096)
def _date(minutes: int, is_recent: bool) -> bytes:
    """Return the date of a minute since 1970."""
    return time.strftime("%b %e %H:%M" if is_recent else "%b %e  %Y", time.gmtime(minutes * 60)).encode()
