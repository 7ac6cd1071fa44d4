"""Idle time-outs and never total ones: whoever still takes or sends something is served, however long it takes."""

from __future__ import annotations

import os
import socket
import ssl
import time

import pytest

from .served import Served, basic
from .test_get import certified

IDLE = 0.6  # seconds
SIZE = 24 * 1024 * 1024
SLOW = 4.0  # seconds; a transfer that lasts as long has outlived several time-outs


@pytest.fixture(params=["plain", "plain, asyncio", "TLS"], scope="module")
def impatient(request, tmp_path_factory):
    """A door that gives idle clients up after IDLE, and how to connect to it."""
    directory = tmp_path_factory.mktemp("idle")
    context = certified(directory) if request.param == "TLS" else None
    loop = "asyncio" if "asyncio" in request.param else "uvloop"
    with Served(directory / "door", loop=loop, tls=context, body_time=IDLE, idle=IDLE) as door:
        (door.data / "big").write_bytes(os.urandom(SIZE))
        yield door


def connect(door: Served, head: str) -> socket.socket:
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
    connection.settimeout(20)
    connection.connect(("127.0.0.1", door.port))
    if door._tls is not None:
        anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
        connection = anybody.wrap_socket(connection)
    fields = "".join(f"{name}: {value}\r\n" for name, value in basic("alice").items())
    connection.sendall(f"{head}\r\nHost: x\r\nConnection: close\r\n{fields}\r\n".encode())
    return connection


def rest_of(connection: socket.socket) -> int:
    """Read to the end, which may be a reset, and return how much came."""
    count = 0
    try:
        while piece := connection.recv(1 << 20):
            count += len(piece)
    except OSError:
        return count
    return count


def test_a_download_that_creeps_is_never_cut(impatient):
    with connect(impatient, "GET /dav/files/alice/home/big HTTP/1.1") as connection:
        count, started = 0, time.monotonic()
        while time.monotonic() - started < SLOW:
            count += len(connection.recv(16 * 1024))
            time.sleep(0.02)
        assert count < SIZE // 2
        assert count + rest_of(connection) > SIZE


def test_a_download_that_stands_still_is_cut(impatient):
    with connect(impatient, "GET /dav/files/alice/home/big HTTP/1.1") as connection:
        assert connection.recv(1000).split(b" ", 2)[1] == b"200"
        time.sleep(5 * IDLE)
        assert rest_of(connection) < SIZE


def test_an_upload_that_creeps_is_never_cut(impatient):
    count = 40
    with connect(impatient, f"PUT /dav/files/alice/home/crept HTTP/1.1\r\nContent-Length: {count}") as connection:
        for _ in range(count):
            connection.sendall(b"x")
            time.sleep(SLOW / count)
        assert connection.recv(1000).split(b" ", 2)[1] in (b"201", b"204")


def test_an_upload_that_stands_still_is_cut(impatient):
    with connect(impatient, "PUT /dav/files/alice/home/stood HTTP/1.1\r\nContent-Length: 2") as connection:
        connection.sendall(b"x")
        started = time.monotonic()
        assert connection.recv(1000).split(b" ", 2)[1] == b"408"
        assert IDLE * 0.9 < time.monotonic() - started < 5 * IDLE
    assert not (impatient.data / "stood").exists()
