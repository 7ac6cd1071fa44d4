"""The link that fails on purpose does nothing else to what it carries."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from faulty_link import FaultyLink

CONTENT = os.urandom(3 * 1024 * 1024)


@pytest.fixture
def link() -> Iterator[FaultyLink]:
    """A link to a server that sends back what it gets."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=echo, args=(connection,), daemon=True).start()

    def echo(connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(65536):
                    connection.sendall(data)
            except OSError:
                return

    threading.Thread(target=serve, daemon=True).start()
    with FaultyLink(server.getsockname()[1]) as made:
        yield made
    server.shutdown(socket.SHUT_RDWR)
    server.close()


def echoed(link: FaultyLink, content: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", link.port), timeout=10) as connection:
        sender = threading.Thread(target=connection.sendall, args=(content,))
        sender.start()
        found = b""
        while len(found) < len(content):
            data = connection.recv(1 << 20)
            if not data:
                break
            found += data
        sender.join()
        return found


def test_everything_passes(link: FaultyLink) -> None:
    assert echoed(link, CONTENT) == CONTENT


def test_latency_is_that_of_both_directions_and_narrows_nothing(link: FaultyLink) -> None:
    link.latency = 0.1
    begin = time.monotonic()
    assert echoed(link, CONTENT) == CONTENT
    assert 0.2 <= time.monotonic() - begin < 2


def test_it_is_cut_where_it_was_asked_for(link: FaultyLink) -> None:
    link.cut_after(1000)
    with socket.create_connection(("127.0.0.1", link.port), timeout=10) as connection:
        connection.sendall(CONTENT[:5000])
        found: list[bytes] = []
        with pytest.raises(ConnectionResetError):
            found.extend(iter(lambda: connection.recv(65536), b""))
        assert sum(map(len, found)) <= 1000  # a reset may take what has not been read
    assert echoed(link, b"again") == b"again"


def test_it_stalls_and_flows_again(link: FaultyLink) -> None:
    with socket.create_connection(("127.0.0.1", link.port), timeout=0.2) as connection:
        link.stall()
        connection.sendall(b"x")
        with pytest.raises(TimeoutError):
            connection.recv(1)
        link.flow()
        connection.settimeout(10)
        assert connection.recv(1) == b"x"


def test_it_is_down_and_up_again(link: FaultyLink) -> None:
    with socket.create_connection(("127.0.0.1", link.port), timeout=10) as connection:
        connection.sendall(b"x")
        assert connection.recv(1) == b"x"
        link.down()
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", link.port), timeout=10)
    link.up()
    assert echoed(link, b"again") == b"again"
