"""asyncssh's channel with a shorter way for what a client reads: most of what this door sends is long and urgent.

asyncssh copies each packet of data nine times and passes it through a dozen calls; here it is copied once, into the
packet that is encrypted. Everything but data goes asyncssh's own way, and so does data under another cipher than
AES-GCM.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from asyncssh.constants import MSG_CHANNEL_DATA, MSG_CHANNEL_EOF
from asyncssh.packet import String

from gateway.ssh.pacing import Pacer
from gateway.ssh.refusing import FilesOnlyChannel

if TYPE_CHECKING:
    from gateway.ssh.connection import Connection

PACKET_MAX = 32 * 1024  # bytes of data in a packet that a client sends; more in one is no use (RFC 4253 section 6.1)


class Channel(FilesOnlyChannel):
    """One channel of a session; `write` keeps what it is given and copies nothing."""

    _conn: Connection
    _send_buf: Any  # pairs of what is to be sent, also memoryviews, and its type
    _send_chan: Any

    def __init__(self, connection: Connection, window: int, pacer: Pacer) -> None:
        """Let the client send `window` bytes before they are taken; `pacer` says when to send."""
        super().__init__(connection, connection.loop, False, False, False, 0, 0, None, "strict", window, PACKET_MAX)
        self._pacer = pacer

    def write(self, data: Any, datatype: Any = None) -> None:
        """Send `data`, which may be a memoryview and must not change; raises BrokenPipeError on a closed channel."""
        if self._send_state != "open":
            raise BrokenPipeError("the channel is closed")
        if data:
            self._send_buf.append((data, datatype))
            self._send_buf_len += len(data)
            self._flush_send_buf()

    def flush(self) -> None:
        """Send what has waited for new keys."""
        self._flush_send_buf()

    def _flush_send_buf(self) -> None:
        """Send what the client's window lets; asyncssh calls this whenever that has grown, and at the end."""
        if self._send_buf and self._send_window:
            self._pacer.ask(self)
        elif not self._send_buf:
            self._end_if_asked()
        self._pause_resume_writing()  # above all when the client lets nothing pass

    def send_some(self, most: int) -> int:
        """Send about `most` bytes, as far as the client's window lets, and return how many."""
        connection, number, sent = self._conn, self._send_chan, 0
        if number is None or not connection.may_send:
            return 0  # closed meanwhile, or keys are exchanged: then everything would gather in asyncssh
        send = connection.sealing_data() or self._send_data
        while self._send_buf and self._send_window and sent < most:
            data, datatype = self._send_buf[0]
            size = min(len(data), self._send_window, self._send_pktsize)
            if size < len(data):
                self._send_buf[0] = (memoryview(data)[size:], datatype)
                data = memoryview(data)[:size]
            else:
                del self._send_buf[0]
            self._send_buf_len -= size
            self._send_window -= size
            sent += size
            send(number, data)
        if sent:
            connection.note_activity()  # the client takes it
        connection.flush()
        self._pause_resume_writing()
        if not self._send_buf:
            self._end_if_asked()
        return sent

    def _send_data(self, _number: int, data: Any) -> None:
        self.send_packet(MSG_CHANNEL_DATA, String(bytes(data)))

    def _end_if_asked(self) -> None:
        if self._send_state == "eof_pending":
            self.send_packet(MSG_CHANNEL_EOF)
            self._send_state = "eof"
        elif self._send_state == "close_pending":
            self._close_send()
