"""Any WebDAV server as configured storage: the whole contract on servers of other people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sites import Site

from backends.errors import InvalidPath, PreconditionFailed
from backends.interface import Features, StorageBackend
from backends.paths import StoragePath
from backends.webdav import WebDAVBackend

from .configured import Open, fresh, opened
from .conformance.actions import get, make, names, path, put
from .conformance.names import HOSTILE_NAMES
from .grid import Grid, xrootd
from .test_webdav import Normalising, RemoteConformance
from .webdav_servers import PASSWORD, USER, apache, nginx, rclone_webdav

__all__ = ["opened"]

XROOTD_CANNOT = frozenset(
    {b"\xff\xfe not utf-8 \x80", b"new\nline", b"carriage\rreturn", b"tab\tbell\x07escape\x1b[31m", b"*?[x]{y}"}
    | {"\ufffe".encode(), b"n" * 255}
)
CONTENT = bytes(range(256)) * 1200  # in more than one piece


def pieces(backend: StorageBackend, where: str, content: bytes = CONTENT, **expectations: Any) -> None:
    """Write a content of several pieces."""
    with backend.open_write(path(where), **expectations) as writer:
        for begin in range(0, len(content), 100_000):
            writer.write(content[begin : begin + 100_000])
        writer.commit()


class ConfiguredConformance(RemoteConformance):
    """What holds of every configured server beyond the contract."""

    def test_a_cut_upload_of_many_pieces_leaves_the_old_content_and_no_name(self, backend: StorageBackend) -> None:
        """Whatever the server makes of a request that is cut off: it is beside, and gone in the end."""
        put(backend, "old", b"old")
        for name in ("old", "new"):
            for size in (3_000_000, None):
                with backend.open_write(path(name), size=size) as writer:
                    for _ in range(20):
                        writer.write(b"x" * 100_000)
        assert names(backend) == [b"old"]
        assert get(backend, "old") == b"old"

    def test_many_pieces_become_one_content(self, backend: StorageBackend) -> None:
        for size in (len(CONTENT), None):
            pieces(backend, f"file-{size}", size=size)
            assert get(backend, f"file-{size}") == CONTENT
            pieces(backend, f"file-{size}", CONTENT[::-1], size=size)
            assert get(backend, f"file-{size}") == CONTENT[::-1]
        assert len(names(backend)) == 2


class CoarseEtags:
    """Servers whose only signs of a change are size and time in whole seconds."""

    def test_every_content_has_an_etag_of_its_own(self, backend: StorageBackend) -> None:
        """Not within one second, so here each size is another."""
        etags = {put(backend, "file", bytes(number)).etag for number in range(20)}
        assert len(etags) == 20

    def test_if_match_refuses_another_content(self, backend: StorageBackend) -> None:
        """The same, with contents of two sizes."""
        old = put(backend, "file", b"old")
        put(backend, "file", b"newer")
        with pytest.raises(PreconditionFailed):
            backend.open_write(path("file"), if_match=old.etag)
        assert get(backend, "file") == b"newer"


# ------------------------------------------------------------------------------------------------------- servers


@pytest.fixture(scope="module")
def apache_url() -> Iterator[str]:
    with apache() as url:
        yield url


@pytest.fixture(scope="module")
def nginx_url() -> Iterator[str]:
    with nginx() as url:
        yield url


@pytest.fixture(scope="module")
def rclone_url(rclone: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with rclone_webdav(rclone, tmp_path_factory.mktemp("rclone")) as url:
        yield url


@pytest.fixture(scope="module")
def gateway_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with Site(tmp_path_factory.mktemp("gateway")) as site:
        site.add_user(USER, PASSWORD)
        yield f"{site.url}/dav/files/{USER}/home"


@pytest.fixture(scope="module")
def grid_url() -> Iterator[tuple[str, Grid]]:
    with xrootd() as served:
        yield served


class TestApache(CoarseEtags, ConfiguredConformance):
    """Its etags are finer than a second, but not fine enough."""

    @pytest.fixture
    def backend(self, apache_url: str, opened: Open) -> WebDAVBackend:
        return fresh(opened, f"{apache_url}/private", user=USER, password_file=PASSWORD.encode())


class TestNginx(CoarseEtags, ConfiguredConformance):
    @pytest.fixture
    def backend(self, nginx_url: str, opened: Open) -> WebDAVBackend:
        return fresh(opened, nginx_url, uploads="direct")

    @pytest.mark.parametrize("name", HOSTILE_NAMES)
    def test_a_hostile_name_is_a_name_like_any_other(self, backend: StorageBackend, name: bytes) -> None:
        """But that names which begin with a dot are in no listing of dav-ext's."""
        if not name.startswith(b"."):
            super().test_a_hostile_name_is_a_name_like_any_other(backend, name)
            return
        with backend.open_write(StoragePath((name,))) as writer:
            writer.write(b"hidden")
            writer.commit()
        assert (names(backend), get(backend, name)) == ([], b"hidden")


class TestRclone(Normalising, ConfiguredConformance):
    @pytest.fixture
    def backend(self, rclone_url: str, opened: Open) -> WebDAVBackend:
        return fresh(opened, rclone_url, user=USER, password_file=f"{PASSWORD}\n".encode())


class TestGateway(ConfiguredConformance):
    """Another gateway of ours, which replaces in one step and hides names like those of uploads beside."""

    expected = Features(server_side_copy=True, quota=True)

    @pytest.fixture
    def backend(self, gateway_url: str, opened: Open) -> WebDAVBackend:
        return fresh(opened, gateway_url, user=USER, password_file=PASSWORD.encode(), uploads="direct")


class TestXrootd(CoarseEtags, ConfiguredConformance):
    """A grid storage element: TLS with an authority of its own, and a proxy certificate."""

    expected = Features()

    @pytest.fixture
    def backend(self, grid_url: tuple[str, Grid], opened: Open) -> WebDAVBackend:
        url, grid = grid_url
        files = {"ca_file": grid.place / "ca.pem", "client_certificate_file": grid.place / "proxy.pem"}
        return fresh(opened, url, **{key: str(file) for key, file in files.items()})

    @pytest.mark.parametrize("name", HOSTILE_NAMES)
    def test_a_hostile_name_is_a_name_like_any_other(self, backend: StorageBackend, name: bytes) -> None:
        """Those that XRootD cannot tell in its listings are refused."""
        if name in XROOTD_CANNOT:
            for call in (backend.open_write, backend.make_directory):
                with pytest.raises(InvalidPath):
                    call(StoragePath((name,)))
            assert names(backend) == []
        else:
            super().test_a_hostile_name_is_a_name_like_any_other(backend, name)

    def test_a_parent_is_not_removed_under_a_write_or_the_write_fails(self, backend: StorageBackend) -> None:
        """XRootD makes the directory again: nothing is lost."""
        make(backend, "folder")
        with backend.open_write(path("folder/file")) as writer:
            writer.write(b"abc")
            backend.remove(path("folder"))
            writer.commit()
        assert get(backend, "folder/file") == b"abc"
