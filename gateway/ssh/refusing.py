"""What SSH has and this door has not, refused on the spot, where asyncssh would keep something or begin a task for it.

No shell, terminal, environment, signal or agent, nothing is forwarded, and no signature is made or taken by SHA-1.
"""

from __future__ import annotations

import asyncio
from typing import Any, NoReturn

from asyncssh.channel import SSHServerChannel
from asyncssh.connection import SSHServerConnection
from asyncssh.constants import (
    DISC_NO_MORE_AUTH_METHODS_AVAILABLE,
    DISC_TOO_MANY_CONNECTIONS,
    EXTENDED_DATA_STDERR,
    MSG_CHANNEL_EXTENDED_DATA,
    MSG_DISCONNECT,
    OPEN_ADMINISTRATIVELY_PROHIBITED,
)
from asyncssh.misc import ChannelOpenError, ProtocolError
from asyncssh.packet import Byte, PacketDecodeError, SSHPacket, String, UInt32

from gateway.ssh import algorithms

# Requests to log in, on one connection: `none`, and twenty keys as an agent may offer them, the last one with its
# signature. OpenSSH's server takes six keys; who has more has to name one there.
TRIES = 22

PACKET_LEAST = 1024  # bytes of data that a client has to take at once
SMALL = 512  # bytes of a piece that has come, which the next one is added to: each is an object of its own
LINGER = 2.0  # seconds in which a client that was turned away has read why
VERSION = "OCM-Gateway"  # what clients are told of the software

_PADDING = 8  # bytes to which a packet is filled before there are keys (RFC 4253 section 6)


class FilesOnlyConnection(SSHServerConnection):
    """A connection that opens sessions, and nothing else."""

    _tries = 0

    # --- logging in ---------------------------------------------------------------------------------------------

    async def _finish_userauth(self, begin_auth: bool, method: bytes, packet: SSHPacket) -> None:
        """Count each request, whatever it is for: another name, another key, a method that is not there."""
        self._tries += 1
        if self._tries > TRIES:
            sentence = "Too many keys were tried; name the right one: -o IdentitiesOnly=yes -i FILE"
            self.disconnect(DISC_NO_MORE_AUTH_METHODS_AVAILABLE, sentence)
            return
        await super()._finish_userauth(begin_auth, method, packet)

    async def validate_public_key(self, username: str, key_data: bytes, msg: bytes, signature: bytes) -> bool:
        """Take no signature of a kind that is not offered: asyncssh would take one by SHA-1 from an RSA key."""
        if msg and _algorithm(signature) not in algorithms.SIGNATURES:
            return False
        return await super().validate_public_key(username, key_data, msg, signature)

    # --- forwarding, either way ---------------------------------------------------------------------------------

    def _open_nothing(self, packet: SSHPacket) -> NoReturn:
        raise ChannelOpenError(OPEN_ADMINISTRATIVELY_PROHIBITED, "Only files are served here; nothing is forwarded")

    _process_direct_tcpip_open = _open_nothing
    _process_direct_streamlocal_at_openssh_dot_com_open = _open_nothing
    _process_tun_at_openssh_dot_com_open = _open_nothing

    def _listen_nowhere(self, packet: SSHPacket) -> None:
        self._report_global_response(False)

    _process_tcpip_forward_global_request = _listen_nowhere
    _process_cancel_tcpip_forward_global_request = _listen_nowhere
    _process_streamlocal_forward_at_openssh_dot_com_global_request = _listen_nowhere
    _process_cancel_streamlocal_forward_at_openssh_dot_com_global_request = _listen_nowhere


class FilesOnlyChannel(SSHServerChannel[bytes]):
    """A channel that begins with `subsystem` or `exec`, and takes no other request."""

    def _refuse(self, packet: SSHPacket) -> bool:
        return False

    _process_pty_req_request = _refuse
    _process_x11_req_request = _refuse
    _process_env_request = _refuse  # asyncssh keeps each, as many as come
    _process_window_change_request = _refuse
    _process_signal_request = _refuse
    _process_break_request = _refuse

    def _process_exec_request(self, packet: SSHPacket) -> bool:
        """Take a command that is no UTF-8 as well, which asyncssh refuses: names are bytes."""
        command = packet.get_string()
        packet.check_end()
        return self._start_session(command=command.decode("utf-8", "surrogateescape"))

    def _process_auth_agent_req_at_openssh_dot_com_request(self, packet: SSHPacket) -> None:
        self._report_response(False)

    def process_open(self, send_chan: int, send_window: int, send_pktsize: int, session: Any) -> None:
        """Open no channel whose client wants what it reads byte by byte: each of them would be a packet."""
        if send_pktsize < PACKET_LEAST:
            raise ProtocolError(f"Packets of {send_pktsize} bytes are too small; take {PACKET_LEAST} or more")
        super().process_open(send_chan, send_window, send_pktsize, session)

    def _accept_data(self, data: bytes, datatype: Any = None) -> None:
        if self._recv_paused == "starting":
            raise ProtocolError("Data came before it was said what they are for")
        held = len(self._recv_buf)
        super()._accept_data(data, datatype)
        if len(self._recv_buf) > held > 0 and len(self._recv_buf[-2][0]) < SMALL:
            (first, kind), (second, _) = self._recv_buf[-2:]
            self._recv_buf[-2:] = [(first + second, kind)]

    def tell(self, sentence: str) -> None:
        """Show `sentence` to whoever sits in front of the client, if its window has room for that."""
        line = f"{sentence}\r\n".encode()
        if self._send_state == "open" and self._send_window >= len(line):
            self._send_window -= len(line)
            self.send_packet(MSG_CHANNEL_EXTENDED_DATA, UInt32(EXTENDED_DATA_STDERR), String(line))


def turn_away(loop: asyncio.AbstractEventLoop, transport: Any, sentence: str) -> None:
    """End a connection that has said nothing yet, so that its client shows `sentence`; none is faster.

    The client is heard for a moment more: one whose own greeting meets a closed socket reads nothing.
    """
    if not sentence:
        transport.abort()
        return
    transport.set_protocol(asyncio.Protocol())  # which hears and says nothing
    payload = Byte(MSG_DISCONNECT) + UInt32(DISC_TOO_MANY_CONNECTIONS) + String(sentence) + String("en")
    padding = 4 + -(4 + 1 + len(payload) + 4) % _PADDING
    packet = Byte(padding) + payload + bytes(padding)
    transport.write(f"SSH-2.0-{VERSION}\r\n".encode() + UInt32(len(packet)) + packet)
    loop.call_later(LINGER, transport.abort)


def _algorithm(signature: bytes) -> str:
    try:
        return SSHPacket(signature).get_string().decode("ascii", "replace")
    except PacketDecodeError:
        return ""
