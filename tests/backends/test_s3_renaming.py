"""Renaming in a bucket, which is copying and removing: what fails or changes in between costs nobody a file."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from s3_servers import BUCKET, Environ, MotoServer, backend_at, rclone_s3, refusal

from backends.errors import PermissionDenied, Unavailable
from backends.s3 import S3Backend, copying
from backends.s3.parts import MIB

from .conformance.actions import get, make, names, path, put
from .over_moto import backend, moto, put_object, shared_moto

__all__ = ["backend", "moto", "shared_moto"]


def test_a_source_that_changed_while_it_was_renamed_is_not_removed(moto: MotoServer, backend: S3Backend) -> None:
    put(backend, "old", b"first")

    def meanwhile(environ: Environ) -> None:
        if environ["REQUEST_METHOD"] == "HEAD" and environ["PATH_INFO"].endswith("root/new"):
            moto.fault = None
            put_object(moto, "root/old", b"second")

    def after_the_copy(environ: Environ) -> None:
        if environ.get("HTTP_X_AMZ_COPY_SOURCE"):
            moto.fault = meanwhile

    moto.fault = after_the_copy
    with pytest.raises(Unavailable, match="changed"):
        backend.rename(path("old"), path("new"), overwrite=False)
    assert (get(backend, "old"), get(backend, "new")) == (b"second", b"first")


def test_a_directory_of_many_large_files_is_renamed(
    moto: MotoServer, backend: S3Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is copied in parts, by the threads that the copies of the others would occupy."""
    monkeypatch.setattr(copying, "COPY_MAX", 5 * MIB)
    monkeypatch.setattr(copying, "PART", 5 * MIB)
    content = b"x" * (5 * MIB + 1)
    for number in range(17):
        put_object(moto, f"root/old/{number:02}", content)
    moto.fault = lambda environ: time.sleep(0.2) if environ["QUERY_STRING"].startswith("uploads") else None
    done = threading.Event()

    def rename() -> None:
        backend.rename(path("old"), path("new"), overwrite=False)
        done.set()

    threading.Thread(target=rename, daemon=True).start()
    assert done.wait(40)
    assert (len(names(backend, "new")), names(backend)) == (17, [b"new"])


def test_a_file_that_changed_within_the_second_in_which_its_directory_was_renamed_stays(
    moto: MotoServer, backend: S3Backend
) -> None:
    """Times are told in seconds, and the new content is as long as the old one."""
    put_object(moto, "root/old/file", b"first")

    def meanwhile(environ: Environ) -> None:
        if environ["REQUEST_METHOD"] == "HEAD" and environ["PATH_INFO"].endswith("root/new/file"):
            moto.fault = None
            put_object(moto, "root/old/file", b"other")

    moto.fault = meanwhile
    with pytest.raises(Unavailable, match="changed"):
        backend.rename(path("old"), path("new"), overwrite=False)
    assert (get(backend, "old/file"), get(backend, "new/file")) == (b"other", b"first")


def test_what_changes_in_a_directory_while_it_is_renamed_is_not_removed(moto: MotoServer, backend: S3Backend) -> None:
    for name in ("old", "old/inner"):
        make(backend, name)
    put(backend, "old/inner/file", b"first")

    def meanwhile(environ: Environ) -> None:
        if environ["REQUEST_METHOD"] == "DELETE":
            return
        if environ.get("HTTP_X_AMZ_COPY_SOURCE", "").endswith("old/inner/file"):
            moto.fault = after

    def after(environ: Environ) -> None:
        if environ["REQUEST_METHOD"] == "GET":  # the second walk begins
            moto.fault = None
            put_object(moto, "root/old/new", b"new")
            put_object(moto, "root/old/inner/file", b"longer than the first")

    moto.fault = meanwhile
    with pytest.raises(Unavailable, match="changed while it was renamed"):
        backend.rename(path("old"), path("target"), overwrite=False)
    assert get(backend, "target/inner/file") == b"first"
    assert (get(backend, "old/new"), get(backend, "old/inner/file")) == (b"new", b"longer than the first")


def test_a_directory_that_cannot_be_copied_whole_keeps_its_name(moto: MotoServer, backend: S3Backend) -> None:
    make(backend, "old")
    for name in ("a", "b", "c"):
        put(backend, f"old/{name}", name.encode())
    moto.fault = lambda environ: (
        refusal("403 x", "AccessDenied") if environ.get("HTTP_X_AMZ_COPY_SOURCE", "").endswith("old/b") else None
    )
    with pytest.raises(PermissionDenied):
        backend.rename(path("old"), path("target"), overwrite=False)
    moto.fault = None
    assert (names(backend), names(backend, "old")) == ([b"old"], [b"a", b"b", b"c"])


def test_an_empty_directory_that_was_to_be_replaced_stays_when_that_fails(moto: MotoServer, backend: S3Backend) -> None:
    for name in ("old", "target"):
        make(backend, name)
    put(backend, "old/file", b"content")
    moto.fault = lambda environ: (
        refusal("403 x", "AccessDenied") if environ.get("HTTP_X_AMZ_COPY_SOURCE", "").endswith("old/file") else None
    )
    with pytest.raises(PermissionDenied):
        backend.rename(path("old"), path("target"), overwrite=True)
    moto.fault = None
    assert (names(backend), names(backend, "old"), names(backend, "target")) == ([b"old", b"target"], [b"file"], [])


def test_so_does_one_of_the_disk_behind_the_server(
    rclone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no marker, and rclone removes it with the last file in it."""
    root = tmp_path / "data" / BUCKET / "root"
    for name in ("old", "target"):
        (root / name).mkdir(parents=True)
    for name in ("a", "b", "c"):
        (root / "old" / name).write_text(name)
    with (
        rclone_s3(rclone, tmp_path) as server,
        closing(backend_at(server.server, tmp_path / "state", "root")) as backend,
    ):
        copy = backend._bucket.copy

        def all_but_two(source: str, etag: str, target: str) -> None:
            if target.endswith(("c", "directory")):
                raise PermissionDenied(target)
            copy(source, etag, target)

        monkeypatch.setattr(backend._bucket, "copy", all_but_two)
        with pytest.raises(PermissionDenied):
            backend.rename(path("old"), path("target"), overwrite=True)
        assert (names(backend), names(backend, "target")) == ([b"old", b"target"], [])
        assert names(backend, "old") == [b"a", b"b", b"c"]
