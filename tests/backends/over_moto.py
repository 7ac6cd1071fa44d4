"""moto's S3 server for a module's tests, empty at the beginning of each, and what another program does there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from s3_servers import BUCKET, MotoServer, backend_at, empty

from backends.s3 import S3Backend


@pytest.fixture(scope="module")
def shared_moto() -> Iterator[MotoServer]:
    with MotoServer() as server:
        yield server


@pytest.fixture
def moto(shared_moto: MotoServer) -> Iterator[MotoServer]:
    empty(shared_moto.server)
    client = shared_moto.server.client()
    for one in client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", ()):
        client.abort_multipart_upload(Bucket=BUCKET, Key=one["Key"], UploadId=one["UploadId"])
    shared_moto.seen.clear()
    yield shared_moto
    shared_moto.fault = None


@pytest.fixture
def backend(moto: MotoServer, tmp_path: Path) -> Iterator[S3Backend]:
    """A backend of the test's own, which knows what the server can do."""
    with closing(backend_at(moto.server, tmp_path / "state", "root")) as made:
        made.sweep()
        yield made


def uploads(moto: MotoServer) -> list[str]:
    """Return the keys of the uploads that are neither complete nor dropped."""
    answer = moto.server.client().list_multipart_uploads(Bucket=BUCKET)
    return [one["Key"] for one in answer.get("Uploads", ())]


def put_object(moto: MotoServer, key: str, content: bytes = b"x", **more: Any) -> None:
    moto.server.client().put_object(Bucket=BUCKET, Key=key, Body=content, **more)


def begun_now(backend: S3Backend) -> None:
    """Let this backend see every upload as just begun; moto says 2010 of all."""
    call = backend._bucket.call

    def recently(operation: str, *arguments: Any, **named: Any) -> Any:
        answer = call(operation, *arguments, **named)
        for one in answer.get("Uploads", ()):
            one["Initiated"] = datetime.now(UTC)
        return answer

    backend._bucket.call = recently  # type: ignore[method-assign]  # of this one object alone
