"""The sockets of the SSH door: bound before the first worker, each worker's own, and none without a door."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml
from sites import free_port

from gateway import serving
from gateway.config import load
from gateway.listening import Doors


def bound(stack: ExitStack, directory: Path, **listen: object) -> list[Doors]:
    """Return the sockets of each worker, as `serve` binds them before it starts the first."""
    path = directory / "config.yaml"
    document = {"public_url": "https://cloud.example.org", "state_dir": "state"}
    path.write_text(yaml.safe_dump(document | {"listen": {"http": "127.0.0.1:0", "metrics": None, **listen}}))
    return serving._bind(stack, load(path))


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def test_without_a_door_nothing_is_bound(stack: ExitStack, tmp_path: Path) -> None:
    assert [doors.ssh for doors in bound(stack, tmp_path, ssh=None, workers=2)] == [(), ()]


@pytest.mark.parametrize("workers", [1, 3])
def test_each_worker_has_a_socket_of_its_own_on_the_one_port(stack: ExitStack, tmp_path: Path, workers: int) -> None:
    port = free_port()
    doors = bound(stack, tmp_path, ssh=f"127.0.0.1:{port}", workers=workers)
    listeners = [listener for each in doors for listener in each.ssh]
    assert [listener.getsockname() for listener in listeners] == [("127.0.0.1", port)] * workers
    assert len({listener.fileno() for listener in listeners}) == workers
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    for listener in listeners[:-1]:
        listener.close()
    listeners[-1].listen()
    socket.create_connection(("127.0.0.1", port)).close()
    listeners[-1].setblocking(True)
    listeners[-1].accept()[0].close()


def test_what_is_of_one_worker_alone_is_closed_with_its_doors(stack: ExitStack, tmp_path: Path) -> None:
    (doors,) = bound(stack, tmp_path, ssh="127.0.0.1:0")
    assert set(doors.own) == {*doors.http, *doors.ssh}
    doors.close()
    assert [listener.fileno() for listener in (*doors.own, doors.admin)] == [-1, -1, -1]


def test_a_port_that_is_taken_keeps_the_gateway_from_starting(stack: ExitStack, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(OSError, match="Address already in use"):
        bound(stack, tmp_path, ssh=f"127.0.0.1:{other.getsockname()[1]}")
