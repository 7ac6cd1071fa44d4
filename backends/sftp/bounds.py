"""What a server can make us hold: paramiko itself keeps whatever comes, however small the window and the packets are
that it has asked for (RFC 4254 section 5.2).
"""

from __future__ import annotations

import paramiko
from paramiko.buffered_pipe import BufferedPipe
from paramiko.packet import Packetizer

PACKET = 256 * 1024  # bytes of data in one packet
_AROUND = 1024  # bytes; more than what else is in such a packet


class BoundedPackets(Packetizer):  # type: ignore[misc]  # paramiko has no types
    """Raises SSHException before it takes a packet that is longer than any may be."""

    def read_all(self, n: int, check_rekey: bool = False) -> bytes:
        if n > PACKET + _AROUND:
            raise paramiko.SSHException("the server sends packets that are too long")
        data: bytes = super().read_all(n, check_rekey)
        return data


class BoundedPipe(BufferedPipe):  # type: ignore[misc]  # paramiko has no types
    """Raises SSHException where more comes than the window lets, which ends the connection."""

    def __init__(self, window: int) -> None:
        super().__init__()
        self._window = window

    def feed(self, data: bytes) -> None:
        if len(self) + len(data) > self._window:
            raise paramiko.SSHException("the server sends more than the window of the channel lets")
        super().feed(data)


def hold_to_window(channel: paramiko.Channel, window: int) -> None:
    """End the connection of a new channel when more than `window` bytes wait on it to be taken.

    What was sent before the channel had a use is dropped.
    """
    channel.in_buffer, channel.in_stderr_buffer = BoundedPipe(window), BoundedPipe(window)
