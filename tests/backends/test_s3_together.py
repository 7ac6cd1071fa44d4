"""The S3 backend where much is done at once: by its own threads, by other processes, by other programs."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from s3_servers import BUCKET, Environ, MotoServer, backend_at, empty, refusal

from backends.errors import InvalidPath, NotFound, PreconditionFailed, Unavailable
from backends.s3 import S3Backend, copying
from backends.s3.keys import KEY_MAX
from backends.s3.parts import MIB, PartedUpload

from .conformance.actions import get, names, path


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


def uploads(moto: MotoServer) -> list[str]:
    """Return the keys of the uploads that are neither complete nor dropped."""
    answer = moto.server.client().list_multipart_uploads(Bucket=BUCKET)
    return [one["Key"] for one in answer.get("Uploads", ())]


def dies(backend: S3Backend) -> None:
    """Let go of the journal's lock, as the kernel does when the process ends."""
    backend._leftovers._journal._file.close()


def test_an_upload_that_another_process_has_just_begun_is_not_swept(moto: MotoServer, tmp_path: Path) -> None:
    """It has no part yet, and is where a dead process has worked: a client that tries again is as quick as that.

    Whether it was one of the dead is seen at a later start.
    """
    state = tmp_path / "state"
    dead, successor, later = (backend_at(moto.server, state, "root") for _ in range(3))
    dead._leftovers.enter(path("file"))
    dies(dead)
    call = dead._bucket.call

    def recently(operation: str, *arguments: Any, **named: Any) -> Any:
        answer = call(operation, *arguments, **named)
        for one in answer.get("Uploads", ()):
            one["Initiated"] = datetime.now(UTC)
        return answer

    successor._bucket.call = recently  # moto says 2010 of all
    moto.server.client().create_multipart_upload(Bucket=BUCKET, Key="root/file")
    assert successor.sweep() == 0
    assert uploads(moto) == ["root/file"]
    dies(successor)
    assert later.sweep() == 1
    assert uploads(moto) == []


def test_what_a_crash_in_the_renaming_of_a_directory_has_left_is_dropped(moto: MotoServer, tmp_path: Path) -> None:
    """Such copies are noted by the directory."""
    dead, successor = (backend_at(moto.server, tmp_path / "state", "root") for _ in range(2))
    store = dead._store
    upload = PartedUpload(store.bucket, "root/new/large", path("new"), store.threads, store.leftovers)
    store.bucket.part("root/new/large", upload.id, 1, b"x")
    dies(dead)
    assert successor.sweep() == 1
    assert uploads(moto) == []


def test_nothing_else_waits_for_a_directory_that_is_renamed(moto: MotoServer, backend: S3Backend) -> None:
    put_object(moto, "root/old/file")
    copying_now, go_on, done = threading.Event(), threading.Event(), threading.Event()

    def hold(environ: Environ) -> None:
        if environ.get("HTTP_X_AMZ_COPY_SOURCE"):
            copying_now.set()
            go_on.wait(60)

    def change_others() -> None:
        for number in range(200):
            with pytest.raises(NotFound):
                backend.remove(path(f"other-{number}"))
        done.set()

    moto.fault = hold
    renaming = threading.Thread(target=lambda: backend.rename(path("old"), path("new"), overwrite=False))
    renaming.start()
    assert copying_now.wait(20)
    threading.Thread(target=change_others, daemon=True).start()
    in_time = done.wait(20)
    go_on.set()
    renaming.join(20)
    assert in_time
    assert names(backend) == [b"new"]


def test_what_may_not_be_tried_out_now_is_tried_out_later(moto: MotoServer, tmp_path: Path) -> None:
    """Keys that were not allowed to write for a while must not cost the server's comparisons for good."""
    moto.fault = lambda environ: refusal("403 x", "AccessDenied") if environ["REQUEST_METHOD"] == "PUT" else None
    with closing(backend_at(moto.server, tmp_path / "state", "root")) as backend:
        backend.sweep()
        moto.fault = None
        with backend.open_write(path("file"), if_none_match=True) as writer:
            writer.write(b"ours")

            def first(environ: Environ) -> None:
                if environ["REQUEST_METHOD"] == "PUT" and environ["PATH_INFO"].endswith("root/file"):
                    moto.fault = None
                    put_object(moto, "root/file", b"theirs")

            moto.fault = first
            with pytest.raises(PreconditionFailed):
                writer.commit()
        assert get(backend, "file") == b"theirs"


def test_a_file_that_was_removed_right_before_its_replacement_is_not_as_expected(
    moto: MotoServer, backend: S3Backend
) -> None:
    """Amazon S3 User Guide, "How to prevent object overwrites": such a request is answered with 404."""
    put_object(moto, "root/file", b"old")
    entry = backend.stat(path("file"))
    moto.fault = lambda environ: refusal("404 x", "NoSuchKey") if environ["REQUEST_METHOD"] == "PUT" else None
    with backend.open_write(path("file"), if_match=entry.etag) as writer, pytest.raises(PreconditionFailed):
        writer.commit()


@pytest.mark.parametrize("answer", [b"", b"<InitiateMultipartUploadResult/>"])
def test_an_answer_without_what_was_asked_for_is_none(moto: MotoServer, backend: S3Backend, answer: bytes) -> None:
    moto.fault = lambda environ: ("200 OK", answer) if environ["REQUEST_METHOD"] == "POST" else None
    with backend.open_write(path("file")) as writer, pytest.raises(Unavailable, match="none of an S3 server"):
        writer.write(b"x" * 9 * MIB)


def test_the_longest_key_that_a_listing_shows_can_be_read(moto: MotoServer, backend: S3Backend) -> None:
    """A folder of that name would need one byte more, so nothing new gets it."""
    folder = "/".join(["n" * 200] * 4)
    put_object(moto, f"root/{folder}/" + "f" * (KEY_MAX - len(f"root/{folder}/")), b"content")
    (name,) = names(backend, folder)
    longest = path(folder).child(name)
    assert get(backend, bytes(longest)) == b"content"
    backend.remove(longest)
    for change in (lambda: backend.open_write(longest), lambda: backend.make_directory(longest)):
        with pytest.raises(InvalidPath):
            change()
    with pytest.raises(NotFound):
        backend.scan(longest)
