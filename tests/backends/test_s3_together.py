"""The S3 backend where much is done at once: by its own threads, by other processes, by other programs."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from s3_servers import BUCKET, MotoServer, backend_at, empty

from backends.s3 import S3Backend, copying
from backends.s3.parts import MIB

from .conformance.actions import names, path


@pytest.fixture(scope="module")
def shared_moto() -> Iterator[MotoServer]:
    with MotoServer() as server:
        yield server


@pytest.fixture
def moto(shared_moto: MotoServer) -> Iterator[MotoServer]:
    empty(shared_moto.server)
    yield shared_moto
    shared_moto.fault = None


@pytest.fixture
def backend(moto: MotoServer, tmp_path: Path) -> Iterator[S3Backend]:
    with closing(backend_at(moto.server, tmp_path / "state", "root")) as backend:
        backend.sweep()
        yield backend


def put_object(moto: MotoServer, key: str, content: bytes = b"x") -> None:
    moto.server.client().put_object(Bucket=BUCKET, Key=key, Body=content)


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
