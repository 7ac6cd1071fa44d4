"""Which packet answers which request, and its fields; a server that sends what is no SFTP is Unavailable."""

from __future__ import annotations

from backends.errors import Unavailable
from backends.sftp_packets import Fields, Type

# What a request is answered with unless it is refused; others only with a status
ANSWERS = {
    Type.OPEN: Type.HANDLE,
    Type.OPENDIR: Type.HANDLE,
    Type.READ: Type.DATA,
    Type.READDIR: Type.NAME,
    Type.REALPATH: Type.NAME,
    Type.LSTAT: Type.ATTRS,
    Type.STAT: Type.ATTRS,
    Type.FSTAT: Type.ATTRS,
}


class Answer(Fields):
    """The fields of a packet from the server, each of which raises Unavailable where that ends too early."""

    __slots__ = ("_server",)

    def __init__(self, server: str, packet: bytes) -> None:
        """`server` names server and account in errors."""
        super().__init__(packet, 1)  # behind its type
        self._server = server

    def malformed(self, what: str) -> Unavailable:
        return Unavailable(f"{self._server}: the server sends packets that are no SFTP: {what}")

    def data(self, most: int) -> bytes:
        """Return the content that a READ of `most` bytes is answered with; what is more belongs nowhere."""
        data = self.string()
        if len(data) > most:
            raise self.malformed("more bytes than were asked for")
        return data

    def pairs(self) -> dict[bytes, bytes]:
        """Return the names and values that fill the rest."""
        found: dict[bytes, bytes] = {}
        while self._position < len(self._data):
            name = self.string()
            found[name] = self.string()
        return found
