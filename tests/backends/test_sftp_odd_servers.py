"""A server that sends what is no SFTP: an answer that is cut short is a clear refusal, and never taken for another."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from sftp_servers import SFTP_SERVER, Server, sshd

from backends.errors import Unavailable

from .conformance.actions import get, names, path

VERSION, HANDLE, DATA, NAME, ATTRS, EXTENDED_REPLY = 2, 102, 103, 104, 105, 201
CONTENT = b"content"

WHOLE = 100  # per cent

# OpenSSH's own server, of which each answer of one type is changed: only so many per cent of it are sent, or it has so
# many extended attributes that say nothing
ODD = """
import subprocess, sys
from pathlib import Path
kind, share, pairs = map(int, Path(sys.argv[2]).read_text().split())
server = subprocess.Popen([sys.argv[1]], stdout=subprocess.PIPE)
while size := server.stdout.read(4):
    body = server.stdout.read(int.from_bytes(size, "big"))
    if body[0] == kind:
        body = body[: len(body) * share // 100]
        if pairs:
            body = body[:5] + bytes((0x80 | body[5],)) + body[6:] + pairs.to_bytes(4, "big") + bytes(8 * pairs)
    sys.stdout.buffer.write(len(body).to_bytes(4, "big") + body)
    sys.stdout.buffer.flush()
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    place = tmp_path_factory.mktemp("sshd")
    (place / "odd.py").write_text(ODD)
    with sshd(place, f"{sys.executable} {place}/odd.py {SFTP_SERVER} {place}/odd") as server:
        (server.data / "file").write_bytes(CONTENT)
        yield server


@pytest.fixture
def odd(server: Server) -> Callable[..., None]:
    def change(kind: int, share: int, pairs: int = 0) -> None:
        (server.place / "odd").write_text(f"{kind} {share} {pairs}")

    return change


@pytest.mark.parametrize(
    ("kind", "share"), [(VERSION, 99), (EXTENDED_REPLY, 50), (NAME, 50), (ATTRS, 50), (HANDLE, 50), (DATA, 50)]
)
def test_an_answer_that_is_cut_short_is_unavailable(
    server: Server, odd: Callable[..., None], kind: int, share: int
) -> None:
    odd(kind, share)
    with closing(server.backend(server.data)) as backend:
        with pytest.raises(Unavailable, match=r"lab: .*packets that are no SFTP: a (packet|string) "):
            get(backend, "file")
        if kind == DATA:
            assert names(backend) == [b"file"]
        else:
            with pytest.raises(Unavailable, match="no SFTP"):
                backend.open_write(path("new"))
    assert [one.name for one in server.data.iterdir()] == ["file"]


def test_a_list_that_ends_early_is_not_taken_for_all(server: Server, odd: Callable[..., None]) -> None:
    many = server.place / "many"
    many.mkdir()
    for number in range(8):  # so that names are cut off, and not the name that a path has on the server
        (many / f"{number}").touch()
    odd(NAME, 95)
    with closing(server.backend(many)) as backend, pytest.raises(Unavailable, match="no SFTP"):
        names(backend)


def test_extended_attributes_are_read_over_as_long_as_there_are_few(server: Server, odd: Callable[..., None]) -> None:
    odd(ATTRS, WHOLE, pairs=100)
    with closing(server.backend(server.data)) as backend:
        assert get(backend, "file") == CONTENT
    odd(ATTRS, WHOLE, pairs=101)
    with closing(server.backend(server.data)) as backend, pytest.raises(Unavailable, match="101 extended attributes"):
        get(backend, "file")
