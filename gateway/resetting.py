"""A connection's socket beneath its transport, and how it ends when an answer cannot be finished: noticeably."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct

RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 s: close(2) sends a reset and drops what is queued


def duplicate(transport: asyncio.Transport) -> socket.socket:
    """Return the socket of a connection on a descriptor of its own, not blocking."""
    own = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
    own.setblocking(False)
    return own


def reset(transport: asyncio.Transport | None) -> None:
    """Abort a connection with a reset; what the kernel still holds is not delivered."""
    if transport is None:
        return
    with contextlib.suppress(OSError, AttributeError), duplicate(transport) as own:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    transport.abort()
