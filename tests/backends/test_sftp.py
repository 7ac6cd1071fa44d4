"""The SFTP backend keeps the contract on OpenSSH's own server, whatever of its extensions that offers."""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest
from sftp_servers import PLAIN, Server, sshd

from backends.errors import NotFound
from backends.interface import Features, StorageBackend
from backends.sftp import SFTPBackend

from .conformance import BackendConformance, RandomWritingConformance
from .conformance.actions import ROOT, path, put


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with sshd(tmp_path_factory.mktemp("sshd")) as started:
        yield started


@pytest.fixture(scope="module")
def plain_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with sshd(tmp_path_factory.mktemp("plain"), PLAIN) as started:
        yield started


@pytest.fixture(scope="module")
def on_server(server: Server) -> Iterator[SFTPBackend]:
    with closing(server.backend(server.data)) as backend:
        yield backend


@pytest.fixture(scope="module")
def on_plain_server(plain_server: Server) -> Iterator[SFTPBackend]:
    with closing(plain_server.backend(plain_server.data)) as backend:
        yield backend


def emptied(backend: SFTPBackend, server: Server) -> SFTPBackend:
    """Return the backend, which has been at the server, over an empty root; connecting anew would take longer."""
    shutil.rmtree(server.data)
    server.data.mkdir()
    backend.stat(ROOT)
    return backend


class TestOpenSSH(BackendConformance, RandomWritingConformance):
    expected = Features(atomic_replace=True, server_side_copy=True, random_write=True, quota=True)
    unit = 50_000

    @pytest.fixture
    def backend(self, on_server: SFTPBackend, server: Server) -> SFTPBackend:
        return emptied(on_server, server)


class TestWithoutExtensions(BackendConformance, RandomWritingConformance):
    """A server that speaks the draft and nothing else."""

    expected = Features(random_write=True)
    unit = 5_000

    @pytest.fixture
    def backend(self, on_plain_server: SFTPBackend, plain_server: Server) -> SFTPBackend:
        return emptied(on_plain_server, plain_server)

    def test_what_is_aside_does_not_move_away_with_its_directory(
        self, backend: SFTPBackend, plain_server: Server
    ) -> None:
        """Such a server replaces a name in two steps."""
        backend.make_directory(path("folder"))
        put(backend, "folder/file", b"old")
        ended = threading.Event()

        def move() -> None:
            while not ended.is_set():
                backend.rename(path("folder"), path("moved"), overwrite=False)
                backend.rename(path("moved"), path("folder"), overwrite=False)

        mover = threading.Thread(target=move)
        mover.start()
        try:
            for number in range(150):
                with contextlib.suppress(NotFound):  # the folder was away
                    put(backend, "folder/file", b"%d" % number)
        finally:
            ended.set()
            mover.join()
        left = {each.name for each in (plain_server.data / "folder").iterdir()}
        assert "file" in left
        assert not [name for name in left if "old" in name], "a content is lost to all but who looks for it"

    def test_a_reader_keeps_its_content_when_the_name_changes_hands(self, backend: StorageBackend) -> None:
        """Though a name is replaced in two steps here, and may be missing for a moment."""
        put(backend, "file", b"old")
        with backend.open_read(path("file")) as reader:
            put(backend, "file", b"new content")
            assert (reader.entry.size, reader.read_at(0, 100)) == (3, b"old")
            backend.remove(path("file"))
            assert reader.read_at(0, 100) == b"old"
