"""Bytes of a channel into packets of SFTP: each has its length before it (draft-ietf-secsh-filexfer-02 section 3)."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from backends.sftp_packets import Malformed

PACKET_MAX = 256 * 1024  # bytes; what OpenSSH allows (sftp-common.h), and tells in limits@openssh.com

_LENGTH = struct.Struct(">I")


class Framing:
    """Collects what arrives; a packet is handed out as soon as it is whole, and copied at most once for that."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._held = 0  # bytes in `_pieces`
        self._wanted = _LENGTH.size  # bytes until there is something to hand out

    def feed(self, data: bytes) -> Iterator[memoryview]:
        """Give the packets that `data` completes, without their lengths; raises Malformed for one over PACKET_MAX."""
        self._pieces.append(data)
        self._held += len(data)
        if self._held < self._wanted:
            return
        whole = memoryview(data if len(self._pieces) == 1 else b"".join(self._pieces))
        begin = 0
        while (end := begin + self._length_at(whole, begin)) <= len(whole) and end > begin:
            yield whole[begin + _LENGTH.size : end]
            begin = end
        self._keep(whole[begin:], end - begin)

    def _length_at(self, whole: memoryview, begin: int) -> int:
        """Return the bytes of the packet that begins there, its length included; 0 where not even that has come."""
        if len(whole) - begin < _LENGTH.size:
            return 0
        (length,) = _LENGTH.unpack_from(whole, begin)
        if not 1 <= length <= PACKET_MAX:
            raise Malformed(f"a packet of {length} bytes; 1 to {PACKET_MAX} are allowed")
        return int(_LENGTH.size + length)

    def _keep(self, rest: memoryview, wanted: int) -> None:
        self._pieces = [bytes(rest)] if rest else []
        self._held = len(rest)
        self._wanted = wanted or _LENGTH.size
