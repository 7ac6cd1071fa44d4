"""A client that stops in the middle, and a digest that lies: the old content stays, and nothing is left behind."""

from __future__ import annotations

import hashlib
import itertools
import socket
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backends.temporaries import token_of
from gateway.uploads import LIFETIME

from ..dav.served import Served, basic

ANNOUNCED = 3_000_000  # bytes; half of it is sent
PATIENCE = 0.3  # seconds that the door waits for a piece of a body
OLD, NEW = b"old content", b"new content" * 10_000


def close(connection: socket.socket) -> None:
    connection.close()


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()


def half_close(connection: socket.socket) -> None:
    connection.shutdown(socket.SHUT_WR)
    assert not connection.recv(1000).startswith(b"HTTP/1.1 2")
    connection.close()


def fall_silent(connection: socket.socket) -> None:
    assert connection.recv(1000).startswith(b"HTTP/1.1 408 ")
    connection.close()


ENDS: list[Callable[[socket.socket], None]] = [close, reset, half_close, fall_silent]
BODIES = {
    "length": (f"Content-Length: {ANNOUNCED}", b""),
    "chunked": ("Transfer-Encoding: chunked", b"%x\r\n" % ANNOUNCED),
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("cut"), body_time=PATIENCE) as served:
        yield served
        served.ahead = LIFETIME + 1  # what could have been resumed is debris from now on, and goes
        served.run(served.uploads.sweep(served.storages["storage"]))
        assert served.temporaries() == []
    journals = served.data.parent / "journals"
    assert not journals.exists() or list(journals.iterdir()) == []


@pytest.fixture(params=["new", "replacing"])
def name(request: pytest.FixtureRequest, served: Served) -> str:
    """The name of a file, which is there with its old content or is not."""
    name = f"{request.param}-{next(_numbers)}"
    if request.param == "replacing":
        (served.data / name).write_bytes(OLD)
    return name


_numbers = itertools.count()


def is_as_before(served: Served, name: str) -> bool:
    present = served.alice("GET", f"/home/{name}")
    unchanged = present.body == OLD if name.startswith("replacing") else present.status == 404
    return unchanged and not debris(served)


def debris(served: Served) -> list[Path]:
    """Return what lies hidden and is not kept to be resumed."""
    return [path for path in served.temporaries() if not served.is_kept(token_of(path.name.encode()))]


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
@pytest.mark.parametrize("body", BODIES)
def test_an_upload_that_stops_in_the_middle_never_was(served, name, body, end):
    field, beginning = BODIES[body]
    before = len(served.temporaries())
    connection = socket.create_connection(("127.0.0.1", served.port), timeout=20)
    head = (
        f"PUT /dav/files/alice/home/{name} HTTP/1.1",
        "Host: x",
        f"Authorization: {basic('alice')['Authorization']}",
        field,
    )
    connection.sendall("\r\n".join((*head, "", "")).encode() + beginning + b"n" * (ANNOUNCED // 2))
    end(connection)
    served.wait_for_end("PUT", f"/home/{name}")
    assert is_as_before(served, name)
    assert body == "length" or len(served.temporaries()) <= before, "without a length there is nothing to go on with"


def digest(algorithm: str, content: bytes) -> str:
    value = hashlib.new(algorithm.replace("-", ""), content).digest()
    return f"{algorithm}=:{b64encode(value).decode()}:"


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("algorithm", ["sha-256", "sha-512"])
@pytest.mark.parametrize("field", ["Content_Digest", "Repr_Digest"])
def test_a_digest_that_lies_costs_nothing_and_a_true_one_is_as_good_as_none(served, name, field, algorithm, body):
    def sent():
        return NEW if body == "length" else iter([NEW[:70_000], NEW[70_000:]])

    reply = served.alice("PUT", f"/home/{name}", sent(), **{field: digest(algorithm, NEW[:-1])})
    assert (reply.status, reply.code) == (400, "DIGEST_MISMATCH")
    assert is_as_before(served, name)
    mixed = f"{digest('sha-256', NEW)}, {digest('sha-512', OLD)}"
    assert served.alice("PUT", f"/home/{name}", sent(), **{field: mixed}).status == 400, "each has to be true"
    assert is_as_before(served, name)
    assert served.alice("PUT", f"/home/{name}", sent(), **{field: digest(algorithm, NEW)}).status in (201, 204)
    assert served.alice("GET", f"/home/{name}").body == NEW
    assert not debris(served)
