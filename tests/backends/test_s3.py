"""The S3 backend keeps the contract, as far as S3 can, on two servers that have nothing in common."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from s3_servers import MotoServer, RcloneServer, backend_at, empty, rclone_s3

from backends.errors import InvalidPath, NotFound
from backends.interface import Features, StorageBackend
from backends.paths import StoragePath
from backends.s3 import S3Backend

from .conformance import BackendConformance
from .conformance.actions import ROOT, get, names, put
from .conformance.names import HOSTILE_NAMES
from .conformance.remote import OneRequestAfterTheOther


@pytest.fixture(scope="module")
def rclone_server(rclone: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RcloneServer]:
    with rclone_s3(rclone, tmp_path_factory.mktemp("rclone")) as server:
        yield server


@pytest.fixture(scope="module")
def moto() -> Iterator[MotoServer]:
    with MotoServer() as server:
        yield server


@pytest.fixture(scope="module")
def over_rclone(rclone_server: RcloneServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Backend]:
    with closing(backend_at(rclone_server.server, tmp_path_factory.mktemp("rclone-state"), "a/root")) as backend:
        yield backend


@pytest.fixture(scope="module")
def over_moto(moto: MotoServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Backend]:
    with closing(backend_at(moto.server, tmp_path_factory.mktemp("moto-state"), "a/root")) as backend:
        yield backend


class S3Conformance(OneRequestAfterTheOther, BackendConformance):
    """The contract less what no object store has: names in any bytes, and paths of any length."""

    expected = Features(server_side_copy=True)
    not_taken: frozenset[bytes] = frozenset()

    @pytest.mark.parametrize("name", HOSTILE_NAMES)
    def test_a_hostile_name_is_a_name_like_any_other(self, backend: StorageBackend, name: bytes) -> None:
        """A name that the store cannot hold is refused by every call, and leaves nothing."""
        if name not in self.not_taken and name != HOSTILE_NAMES[0]:
            super().test_a_hostile_name_is_a_name_like_any_other(backend, name)
            return
        file = StoragePath((name,))
        for change in (
            lambda: backend.make_directory(file),
            lambda: backend.open_write(file).commit(),
        ):
            with pytest.raises((InvalidPath, NotFound)):
                change()
        for look in (backend.stat, backend.scan, backend.open_read, backend.remove):
            with pytest.raises(NotFound):
                look(file)
        assert names(backend) == []

    def test_a_deep_tree_works_as_a_shallow_one(self, backend: StorageBackend) -> None:
        """A key has at most 1,024 bytes: up to there it works, and beyond it is refused."""
        here = ROOT
        for _ in range(17):
            here = here.child(b"fifty-bytes".ljust(50, b"-"))
            backend.make_directory(here)
        put(backend, bytes(here.child(b"file")), b"deep")
        assert get(backend, bytes(here.child(b"file"))) == b"deep"
        assert names(backend, bytes(here)) == [b"file"]
        beyond = here.child(b"n" * 200)
        with pytest.raises(InvalidPath):
            backend.make_directory(beyond)
        with pytest.raises(InvalidPath):
            backend.open_write(beyond)
        for look in (backend.stat, backend.scan, backend.open_read):
            with pytest.raises(NotFound):
                look(beyond)


class TestRclone(S3Conformance):
    @pytest.fixture
    def backend(self, over_rclone: S3Backend, rclone_server: RcloneServer) -> S3Backend:
        empty(rclone_server.server)
        return over_rclone

    def test_composed_and_decomposed_letters_are_two_names(self, backend: StorageBackend) -> None:
        """rclone's file system takes both for one name; what it lists can be read."""
        put(backend, "e\u0301", b"NFD")
        (name,) = names(backend)
        assert get(backend, name) == b"NFD"


class TestMoto(S3Conformance):
    not_taken = frozenset({b"new\nline"})  # its routes end at a line's end

    @pytest.fixture
    def backend(self, over_moto: S3Backend, moto: MotoServer) -> S3Backend:
        empty(moto.server)
        return over_moto
