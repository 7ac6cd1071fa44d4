"""The WebDAV backend keeps the contract, as far as WebDAV can, on servers of other people."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from backends.errors import (
    DirectoryNotEmpty,
    IsADirectory,
    NotADirectory,
    NotFound,
    PermissionDenied,
    StorageError,
)
from backends.interface import Features, Kind, StorageBackend
from backends.paths import StoragePath
from backends.webdav import RemoteRefused, WebDAVBackend
from gateway.outbound import SyncOutbound

from .conformance import BackendConformance
from .conformance.actions import ROOT, get, make, names, path, put
from .conformance.remote import OneRequestAfterTheOther
from .webdav_servers import alice, apache, backend_at, nobody, outbound, rclone_webdav, wsgidav


@pytest.fixture(scope="module")
def transport() -> Iterator[SyncOutbound]:
    with closing(outbound()) as made:
        yield made


@pytest.fixture(scope="module")
def apache_url() -> Iterator[str]:
    with apache() as url:
        yield url


@pytest.fixture(scope="module")
def rclone_url(rclone: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with rclone_webdav(rclone, tmp_path_factory.mktemp("rclone")) as url:
        yield url


def fresh_root(url: str, transport: SyncOutbound) -> WebDAVBackend:
    """Make a directory on the server and return it as a backend."""
    name = uuid.uuid4().hex
    backend_at(url, transport, alice).make_directory(path(name))
    return backend_at(f"{url}/{name}", transport, alice)


class RemoteConformance(OneRequestAfterTheOther, BackendConformance):
    """The contract less what one request after the other cannot give: WebDAV has no atomic look-and-act."""

    expected = Features(server_side_copy=True)


class TestApache(RemoteConformance):
    @pytest.fixture
    def backend(self, apache_url: str, transport: SyncOutbound) -> WebDAVBackend:
        return fresh_root(apache_url, transport)

    def test_every_content_has_an_etag_of_its_own(self, backend: StorageBackend) -> None:
        """Apache's etags are size and time, and the kernel's time has ticks of 4 ms: here each size is another."""
        etags = {put(backend, "file", bytes(number)).etag for number in range(20)}
        assert len(etags) == 20


class Normalising:
    """rclone, whose file system takes composed and decomposed letters for the same."""

    def test_composed_and_decomposed_letters_are_two_names(self, backend: StorageBackend) -> None:
        """They are one; what is listed can be read."""
        put(backend, "e\u0301", b"NFD")
        (name,) = names(backend)
        assert get(backend, name) == b"NFD"


class TestRclone(Normalising, RemoteConformance):
    @pytest.fixture
    def backend(self, rclone_url: str, transport: SyncOutbound) -> WebDAVBackend:
        return fresh_root(rclone_url, transport)


# ----------------------------------------------------------------------------------------- a third server: WsgiDAV


@pytest.fixture
def wsgidav_directory(tmp_path: Path) -> Path:
    directory = tmp_path / "data"
    directory.mkdir()
    return directory


@pytest.fixture
def wsgidav_url(wsgidav_directory: Path) -> Iterator[str]:
    with wsgidav(wsgidav_directory) as url:
        yield url


@pytest.fixture
def remote(wsgidav_url: str, transport: SyncOutbound) -> WebDAVBackend:
    return backend_at(wsgidav_url, transport, alice)


def test_a_tree_that_is_there_already_is_read(remote: WebDAVBackend, wsgidav_directory: Path) -> None:
    """Names in any writing system, sizes and kinds arrive as they are on the disk."""
    (wsgidav_directory / "Übersicht 100%.txt").write_bytes(b"abc")
    (wsgidav_directory / "a#b?c&d+e;f").mkdir()
    (wsgidav_directory / "a#b?c&d+e;f" / "数据").write_bytes(b"12345")
    with remote.scan(ROOT) as scan:
        found = {(entry.name.decode(), entry.kind, entry.size) for entry in scan}
    assert found == {("Übersicht 100%.txt", Kind.FILE, 3), ("a#b?c&d+e;f", Kind.DIRECTORY, 0)}
    assert get(remote, "a#b?c&d+e;f/数据") == b"12345"
    assert get(remote, "Übersicht 100%.txt") == b"abc"


def test_a_tree_is_changed(remote: WebDAVBackend, wsgidav_directory: Path) -> None:
    """Write, copy, rename, remove: seen on the server's disk."""
    make(remote, "folder")
    content = bytes(range(256)) * 5000
    with remote.open_write(path("folder/file"), size=len(content)) as writer:
        for start in range(0, len(content), 100_000):
            writer.write(content[start : start + 100_000])
        entry = writer.commit()
    assert entry == remote.stat(path("folder/file"))
    remote.copy(path("folder/file"), path("copy"), overwrite=False)
    remote.rename(path("folder"), path("moved"), overwrite=False)
    assert (wsgidav_directory / "moved" / "file").read_bytes() == content
    assert (wsgidav_directory / "copy").read_bytes() == content
    with pytest.raises(DirectoryNotEmpty):
        remote.remove(path("moved"))
    remote.remove(path("moved/file"))
    remote.remove(path("moved"))
    assert [one.name for one in wsgidav_directory.iterdir()] == ["copy"]


def test_many_pieces_of_unknown_size_arrive_whole(remote: WebDAVBackend, wsgidav_directory: Path) -> None:
    """Without a size the body goes in chunks."""
    with remote.open_write(path("file")) as writer:
        for number in range(50):
            writer.write(bytes([number]) * 10_001)
        writer.commit()
    assert (wsgidav_directory / "file").read_bytes() == b"".join(bytes([number]) * 10_001 for number in range(50))


def test_a_wrong_password_is_refused_with_its_status(wsgidav_url: str, transport: SyncOutbound) -> None:
    """The caller can tell a refused credential from a missing file."""
    backend = backend_at(wsgidav_url, transport, nobody)
    for call in (backend.stat, backend.scan, backend.open_read, backend.open_write):
        with pytest.raises(RemoteRefused) as caught:
            call(path("file"))
        assert caught.value.status == 401


# ------------------------------------------------------------------------------------------- a single file as root


@pytest.fixture(params=["apache", "rclone", "wsgidav"])
def server(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(f"{request.param}_url"))


def test_a_single_file_can_be_the_root(server: str, transport: SyncOutbound) -> None:
    """A Share of one file: it is read and replaced in place, and nothing is below it or takes its place."""
    name = uuid.uuid4().hex
    put(backend_at(server, transport, alice), name, b"content")
    root = backend_at(f"{server}/{name}", transport, alice)
    entry = root.stat(ROOT)
    assert (entry.name, entry.kind, entry.size) == (b"", Kind.FILE, 7)
    assert get(root, "") == b"content"
    assert put(root, "", b"replaced", if_match=entry.etag).size == 8
    assert get(root, "") == b"replaced"
    refused: list[tuple[type[StorageError], Callable[[], object]]] = [
        (NotADirectory, lambda: root.scan(ROOT)),
        (NotFound, lambda: root.stat(path("below"))),
        (NotFound, lambda: root.open_read(path("below"))),
        (NotADirectory, lambda: root.open_write(path("below"))),
        (NotADirectory, lambda: root.make_directory(path("below"))),
        (PermissionDenied, lambda: root.remove(ROOT)),
        (PermissionDenied, lambda: root.rename(ROOT, path("x"), overwrite=True)),
    ]
    for error, call in refused:
        with pytest.raises(error):
            call()
    assert get(root, "") == b"replaced"


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_directory_is_a_root_with_and_without_a_slash(server: str, transport: SyncOutbound, slash: str) -> None:
    """Some servers redirect from the one to the other."""
    name = uuid.uuid4().hex
    above = backend_at(f"{server}/", transport, alice)
    make(above, name)
    put(above, f"{name}/file", b"abc")
    root = backend_at(f"{server}/{name}{slash}", transport, alice)
    assert root.stat(ROOT).is_directory
    assert names(root) == [b"file"]
    assert get(root, "file") == b"abc"
    with pytest.raises(IsADirectory):
        root.open_read(ROOT)


def test_an_aborted_upload_of_many_pieces_leaves_what_apache_had(apache_url: str, transport: SyncOutbound) -> None:
    """The server sees the body cut off, by either framing, and keeps the old content."""
    backend = fresh_root(apache_url, transport)
    put(backend, "old", b"old")
    for name in ("old", "new"):
        for size in (5_000_000, None):
            with backend.open_write(path(name), size=size) as writer:
                for _ in range(10):
                    writer.write(b"x" * 100_000)
    assert names(backend) == [b"old"]
    assert get(backend, "old") == b"old"


def test_a_content_with_a_wrong_digest_never_reaches_apache_whole(apache_url: str, transport: SyncOutbound) -> None:
    """The last piece is held back until the digests are known to be right."""
    backend = fresh_root(apache_url, transport)
    put(backend, "file", b"old")
    with backend.open_write(path("file"), size=200_000, hashes=("sha256",)) as writer:
        for _ in range(2):
            writer.write(b"x" * 100_000)
        with pytest.raises(StorageError):
            writer.commit({"sha256": bytes(32)})
    assert get(backend, "file") == b"old"


def test_a_password_is_used_for_reading_and_writing(apache_url: str, transport: SyncOutbound) -> None:
    """Every request carries the credential."""
    private = backend_at(f"{apache_url}/private", transport, alice)
    name = uuid.uuid4().hex
    put(private, name, b"secret")
    assert get(private, name) == b"secret"
    with pytest.raises(RemoteRefused):
        backend_at(f"{apache_url}/private", transport, nobody).stat(StoragePath())
