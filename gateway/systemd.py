"""The service manager's notification protocol (sd_notify(3)): ready, stopping, and the watchdog's sign of life.

A datagram to the socket that systemd names is the whole of it; the packages that wrap it are older than the project.
"""

from __future__ import annotations

import asyncio
import os
import socket

import structlog

SEND_TIME = 1.0  # seconds; the queue of a manager that hangs would stop the event loop

log = structlog.get_logger()


def notify(state: str) -> None:
    """Tell the service manager, if one asked to be told, such as `READY=1`; nobody there to listen is no error."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):  # the abstract name space
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.settimeout(SEND_TIME)
            channel.connect(address)
            channel.sendall(state.encode())
    except OSError as error:
        log.warning("the service manager cannot be told", state=state, reason=str(error))


def watchdog_pause() -> float | None:
    """Return the seconds between two signs of life, a third of what the service manager allows; None: it wants none."""
    microseconds = os.environ.get("WATCHDOG_USEC")
    return int(microseconds) / 1_000_000 / 3 if microseconds else None


async def keep_alive() -> None:
    """Send the watchdog's sign of life from the event loop, so that a stuck loop is restarted."""
    pause = watchdog_pause()
    while pause is not None:
        notify("WATCHDOG=1")
        await asyncio.sleep(pause)
