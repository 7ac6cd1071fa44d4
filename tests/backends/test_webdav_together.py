"""The WebDAV backend where several write at once: in turn under one name, and never waiting for another's."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing

import pytest
from sites import eventually

from backends.errors import PreconditionFailed
from backends.webdav import WebDAVBackend

from .conformance.actions import put
from .test_webdav_odd_servers import file, folder, listing
from .webdav_servers import Request, Scripted, backend_at, outbound


class Files(Scripted):
    """A server whose files are in memory, and which takes its time for `/slow`."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.is_slow, self.go_on = threading.Event(), threading.Event()
        super().__init__(self._answer)

    def _answer(self, request: Request) -> None:
        if request.command == "PUT":
            content = request.body()
            if request.path == "/slow":
                self.is_slow.set()
                self.go_on.wait(20)
            self.files[request.path] = content
            request.reply_to_read_body(201)
        elif request.path == "/":
            request.reply(207, listing(folder("/")))
        elif request.path in self.files:
            request.reply(207, listing(file(request.path, len(self.files[request.path]))))
        else:
            request.reply(404)


@pytest.fixture
def both() -> Iterator[tuple[Files, WebDAVBackend]]:
    with Files() as server, closing(outbound()) as transport:
        yield server, backend_at(server.url, transport)
        server.go_on.set()


def test_nothing_else_waits_for_an_upload_that_takes_long(both: tuple[Files, WebDAVBackend]) -> None:
    server, backend = both
    done = threading.Event()

    def write_others() -> None:
        for number in range(600):
            put(backend, f"other-{number}", b"x")
        done.set()

    slow = threading.Thread(target=put, args=(backend, "slow", b"x"))
    slow.start()
    assert server.is_slow.wait(20)
    threading.Thread(target=write_others, daemon=True).start()
    in_time = done.wait(20)
    server.go_on.set()
    slow.join(20)
    assert in_time
    assert len(server.files) == 601


def test_of_two_that_make_the_same_file_one_is_told_that_it_is_there(both: tuple[Files, WebDAVBackend]) -> None:
    """Also by a server that compares nothing: the second looks when the first has ended."""
    server, backend = both
    refused = threading.Event()

    def write_second() -> None:
        with pytest.raises(PreconditionFailed):
            put(backend, "slow", b"second", if_none_match=True)
        refused.set()

    first = threading.Thread(target=put, args=(backend, "slow", b"first"), kwargs={"if_none_match": True})
    first.start()
    assert server.is_slow.wait(20)
    threading.Thread(target=write_second, daemon=True).start()
    eventually(lambda: backend._locks._users[b"slow"], 2)
    server.go_on.set()
    first.join(20)
    assert refused.wait(20)
    assert server.files == {"/slow": b"first"}
