"""asyncssh's server connection with three things added: fast, bounded in memory, and ended when nobody is there.

What is fast is one case alone, which is nearly everything that a busy connection does: data on a channel, under the
ciphers of `ciphers.py`. Such a packet is opened and sealed here in one step each. All others, and all packets while
keys are exchanged, go asyncssh's own way. What is used of its inside for that is checked by a test, and pyproject.toml
names the version.
"""

from __future__ import annotations

import asyncio
import os
import struct
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from asyncssh.constants import DISC_PROTOCOL_ERROR, MSG_CHANNEL_DATA, MSG_IGNORE
from asyncssh.misc import DisconnectError
from asyncssh.packet import SSHPacket

from gateway.ssh.ciphers import BLOCK, Cipher, Opened, short_way
from gateway.ssh.pacing import Entrance
from gateway.ssh.refusing import FilesOnlyConnection, turn_away

# Bytes that asyncssh is given at a time: it copies all that it holds for each packet, and a packet has 32 KiB and some.
FED_AT_ONCE = 33 * 1024
FED_FIRST = 2 * 1024  # the same before the log-in, when packets are short
AT_ONCE = 64  # packets that are taken in one turn; a read of the socket brings eight that are full
BEFORE_LOG_IN = 512 * 1024  # bytes; exchanging keys and trying twenty of one's own takes a fifth of that
RANDOM_AT_ONCE = 4 * 1024  # bytes, for the padding of some 350 packets
UNSENT_MOST = 1 << 20  # bytes in the transport for a client that does not take them; channels stop beyond that

_LENGTH = 4  # bytes, of what says how long a packet is
_PADDING_LEAST = 4  # bytes (RFC 4253 section 6)
_LENGTH_MOST = 256 * 1024  # bytes of a packet; OpenSSH's own limit
_U32 = struct.Struct(">I")
_TO_CHANNEL = 1 + 1 + 4  # bytes: length of the padding, type, channel
_DATA_HEAD = struct.Struct(">BBII")  # length of the padding, MSG_CHANNEL_DATA, channel, length of the data


class Connection(FilesOnlyConnection):
    """One client."""

    _send_encryption: Any

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        options: Any,
        admit: Callable[[Connection, str], str | None],
        ended: Callable[[Connection], None],
        entrance: Entrance,
    ) -> None:
        """`admit` tells, given the client's address, why it may not come in; `ended` hears when it has gone.

        What it sends before it has logged in is taken in its turn at the `entrance`.
        """
        super().__init__(loop, options)
        self.loop = loop
        self._admit = admit
        self._ended = ended
        self._entrance = entrance
        self._is_in = False
        self._before_log_in = 0  # bytes
        self._is_in_line = False  # with something that waits for its turn
        self._rest = b""  # of what was received: the beginning of a packet
        self._sealed: list[bytes] = []  # packets that wait for `flush`
        self._random, self._random_taken = b"", 0
        self._opens: tuple[Any, Cipher | None] = (None, None)  # what opens now, after what it was made
        self._seals: tuple[Any, Cipher | None] = (None, None)
        self.has_room = asyncio.Event()  # in the transport
        self.has_room.set()
        self.active_at = loop.time()

    # --- coming and going ---------------------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        peer = transport.get_extra_info("peername")
        refusal = self._admit(self, peer[0] if peer else "")
        if refusal is not None:
            turn_away(self.loop, transport, refusal)
            return
        self._is_in = True
        transport.set_write_buffer_limits(high=UNSENT_MOST)
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None = None) -> None:
        if self._is_in:
            self._is_in = False
            self.has_room.set()
            self._ended(self)
            super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Stop, for a client that takes nothing, also reading: each of its questions would make an answer wait."""
        self.has_room.clear()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        self.has_room.set()
        if self._transport is not None and not self._transport.is_closing() and not self._is_in_line:
            self._transport.resume_reading()

    def note_activity(self) -> None:
        """Take the client for alive and at work."""
        self.active_at = self.loop.time()

    # --- receiving ----------------------------------------------------------------------------------------------

    def data_received(self, data: bytes, datatype: Any = None) -> None:
        if self._transport is None:
            return
        if self._auth_complete:
            self._reset_keepalive_timer()
            self._receive(data)
            return
        self._before_log_in += len(data)
        if self._before_log_in > BEFORE_LOG_IN:
            self.disconnect(DISC_PROTOCOL_ERROR, "Too much was said before the log-in")
        else:
            self._stand_in_line(data)

    def _stand_in_line(self, data: bytes) -> None:
        """Take `data` in turn, and nothing more before that."""
        assert self._transport is not None
        self._is_in_line = True
        self._transport.pause_reading()
        self._entrance.wait(partial(self._receive_in_turn, data))

    def _receive_in_turn(self, data: bytes) -> None:
        self._is_in_line = False
        if self._transport is not None and not self._transport.is_closing():
            if self.has_room.is_set():
                self._transport.resume_reading()
            self._receive(data)

    def _receive(self, data: bytes) -> None:
        """Take what has come, some packets now and others in turn if there are many."""
        if self._rest:
            data, self._rest = self._rest + data, b""
        begin, left = 0, AT_ONCE
        while begin < len(data):
            left -= 1
            if left < 0:
                self._stand_in_line(data[begin:])
                return
            cipher = self._opening()
            if cipher is None:  # asyncssh keeps itself what it cannot use yet
                end = begin + self._wanted()
                super().data_received(data[begin:end])
                left = 0  # nobody knows how many packets that was
            else:
                end = begin + _size_of_packet(data, begin, cipher.tag)
                if end > len(data) or end == begin:
                    self._rest = data[begin:]
                    return
                self._open(cipher, memoryview(data)[begin:end])
            begin = end

    def _opening(self) -> Cipher | None:
        """Return what opens the packets of the client now, None where that is asyncssh's own affair."""
        if self._recv_handler != self._recv_pkthdr or self._inpbuf or self._decompressor or not self._transport:
            return None
        if self._recv_encryption is not self._opens[0]:
            self._opens = self._recv_encryption, short_way(self._recv_encryption)
        return self._opens[1]

    def _wanted(self) -> int:
        """Return how many bytes to give to asyncssh: not beyond the packet that it has begun, if that is known."""
        if self._recv_handler != self._recv_packet:
            return FED_AT_ONCE if self._auth_complete else FED_FIRST
        missing = _LENGTH + self._pktlen + self._recv_macsize - self._recv_blocksize - len(self._inpbuf)
        return min(max(missing, 1), FED_AT_ONCE if self._auth_complete else FED_FIRST)

    def _open(self, cipher: Cipher, packet: memoryview) -> None:
        """Take one whole packet: data goes to its channel, the rest to asyncssh, which then finds it opened."""
        opened = cipher.open(self._recv_seq, packet[:_LENGTH], packet[_LENGTH:])
        if opened is not None and _is_data(opened) and self._auth_complete:
            channel = self._channels.get(int.from_bytes(opened[2:6], "big"))
            if channel is not None:
                self._take(channel, opened)
                return
        encryption, stand_in = self._recv_encryption, Opened(opened)
        self._recv_encryption = stand_in
        super().data_received(bytes(packet))
        if self._recv_encryption is stand_in:  # and no new keys have come with it
            self._recv_encryption = encryption

    def _take(self, channel: Any, packet: bytes) -> None:
        seq = self._recv_seq
        payload = SSHPacket(packet[1 : -packet[0]])
        payload.get_byte()
        payload.get_uint32()
        try:
            channel.process_packet(MSG_CHANNEL_DATA, seq, payload)
        except DisconnectError as error:
            self._send_disconnect(error.code, error.reason, error.lang)
            self._force_close(error)
        except Exception:  # noqa: BLE001 - as asyncssh does: the connection ends, and its owner hears why
            self.internal_error()
        self._recv_seq = (seq + 1) & 0xFFFF_FFFF

    # --- sending ------------------------------------------------------------------------------------------------

    def send_packet(self, pkttype: int, *args: bytes, handler: Any = None) -> None:
        # asyncssh puts one before each packet of data. It hides the chaining of CBC (RFC 4253 section 9.3.1), which
        # is not offered here, and costs as much as the data.
        if pkttype != MSG_IGNORE:
            self.flush()
            super().send_packet(pkttype, *args, handler=handler)

    @property
    def may_send(self) -> bool:
        """Tell whether data can go now; while keys are exchanged nothing can (RFC 4253 section 7.1)."""
        return bool(self._kex_complete)

    def _send_deferred_packets(self) -> None:
        """Send what asyncssh has kept while keys were exchanged, and then what the channels have."""
        super()._send_deferred_packets()
        channels: list[Any] = [*self._channels.values()]
        for channel in channels:
            channel.flush()

    def sealing_data(self) -> Callable[[int, Any], None] | None:
        """Return what seals data for a channel, to be sent by `flush`; None where asyncssh has to do it."""
        if not (self._auth_complete and self._kex_complete) or self._compressor or self._wants_new_keys():
            return None
        if self._send_encryption is not self._seals[0]:
            self._seals = self._send_encryption, short_way(self._send_encryption)
        cipher = self._seals[1]
        return None if cipher is None else partial(self._seal, cipher)

    def _wants_new_keys(self) -> bool:
        is_old = self._rekey_seconds and time.monotonic() >= self._rekey_time
        return self._rekey_bytes_sent >= self._rekey_bytes or bool(is_old)

    def _seal(self, cipher: Cipher, channel: int, data: Any) -> None:
        size = _DATA_HEAD.size + len(data)
        padding = _PADDING_LEAST + -(size + _PADDING_LEAST) % BLOCK
        packet = b"".join(
            (_DATA_HEAD.pack(padding, MSG_CHANNEL_DATA, channel, len(data)), data, self._take_random(padding))
        )
        self._sealed += cipher.seal(self._send_seq, _U32.pack(len(packet)), packet)
        self._send_seq = (self._send_seq + 1) & 0xFFFF_FFFF
        self._rekey_bytes_sent += len(packet)

    def _take_random(self, size: int) -> bytes:
        """Return bytes for padding, each used once (RFC 4253 section 6); asking the kernel for each costs a seventh."""
        begin, self._random_taken = self._random_taken, self._random_taken + size
        if self._random_taken > len(self._random):
            self._random, begin, self._random_taken = os.urandom(RANDOM_AT_ONCE), 0, size
        return self._random[begin : self._random_taken]

    def flush(self) -> None:
        """Hand to the transport what was sealed."""
        if self._sealed:
            sealed, self._sealed = self._sealed, []
            if self._transport is not None:
                self._transport.writelines(sealed)


def _is_data(packet: bytes) -> bool:
    """Tell whether a packet is data for a channel, as far as to its number; asyncssh judges what is not well formed."""
    return len(packet) > 1 and packet[1] == MSG_CHANNEL_DATA and 0 < packet[0] <= len(packet) - _TO_CHANNEL


def _size_of_packet(data: bytes, begin: int, tag: int) -> int:
    """Return the bytes of the packet that begins there, with length and tag; 0 where not even its length has come.

    A length that is absurd is no reason to wait for so much: asyncssh gets what there is.
    """
    if len(data) - begin < _LENGTH:
        return 0
    (length,) = _U32.unpack_from(data, begin)
    return _LENGTH + min(int(length), _LENGTH_MOST) + tag
