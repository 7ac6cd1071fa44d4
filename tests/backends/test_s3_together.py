"""The S3 backend where much is done at once: by its own threads, by other processes, by other programs."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from s3_servers import BUCKET, Environ, MotoServer, backend_at, refusal

from backends.errors import InvalidPath, NotFound, PreconditionFailed, Unavailable
from backends.s3 import S3Backend
from backends.s3.keys import KEY_MAX
from backends.s3.parts import MIB, PartedUpload

from .conformance.actions import get, names, path
from .over_moto import backend, begun_now, moto, put_object, shared_moto, uploads

__all__ = ["backend", "moto", "shared_moto"]


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
    begun_now(successor)
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
