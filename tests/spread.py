"""Which worker of a site has which connection, as the kernel knows it; connections to each of them."""

from __future__ import annotations

import http.client
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from sites import Site, children, eventually

TRIES = 500  # connections among which every worker has one, as good as certainly


def workers(site: Site) -> list[int]:
    """Return the pids of the workers of `site`."""
    assert site.process is not None
    return children(site.process.pid)


def leader(site: Site) -> int:
    """Return the pid of the worker that answers the admin socket."""
    return int(site.json("status")["pid"])


def reach(site: Site, pid: int) -> http.client.HTTPConnection:
    """Open a connection to the worker `pid`."""
    for _ in range(TRIES):
        connection = site.connect()
        connection.connect()
        if worker_of(site, connection.sock, site.port) == pid:
            return connection
        connection.close()
    raise AssertionError("the kernel gives this worker no connection")


@contextmanager
def connections(site: Site) -> Iterator[dict[int, http.client.HTTPConnection]]:
    """Open one connection to every worker, by pid."""
    opened = {pid: reach(site, pid) for pid in workers(site)}
    try:
        yield opened
    finally:
        for connection in opened.values():
            connection.close()


def status(connection: http.client.HTTPConnection, method: str, target: str, headers: Mapping[str, str]) -> int:
    """Make a request on a connection that stays open, and return the status of the answer."""
    connection.request(method, target, headers=headers)
    answer = connection.getresponse()
    answer.read()
    return answer.status


def worker_of(site: Site, connection: socket.socket, port: int) -> int:
    """Return the pid of the worker that has accepted `connection`, on the site's `port`."""
    found: list[int] = []

    def look() -> bool:
        inode = _other_end(port, connection)
        found[:] = [pid for pid in workers(site) if inode in _sockets(pid)]
        return bool(found)

    eventually(look, True)
    return found[0]


def _other_end(port: int, connection: socket.socket) -> str:
    """Return the inode of the gateway's end of `connection` (proc_pid_net(5))."""
    own = connection.getsockname()[1]
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1].endswith(f":{port:04X}") and fields[2].endswith(f":{own:04X}"):
            return fields[9]
    return "not there yet"


def _sockets(pid: int) -> set[str]:
    inodes = set()
    with suppress(OSError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                inodes.add(os.readlink(descriptor).removeprefix("socket:[").removesuffix("]"))
    return inodes
