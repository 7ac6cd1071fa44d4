"""What the S3 backend asks of a server: how much at a time, in which order, and that it leaves nothing behind."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from s3_servers import BUCKET, Environ, MotoServer, RcloneServer, backend_at, rclone_s3, refusal
from sites import eventually

from backends.errors import (
    DigestMismatch,
    DirectoryNotEmpty,
    IncompleteWrite,
    NotFound,
    PreconditionFailed,
    Unavailable,
)
from backends.s3 import S3Backend, copying, reading
from backends.s3.bucket import Found, Page
from backends.s3.leftovers import Leftovers
from backends.s3.listing import S3Scan
from backends.s3.parts import IN_MEMORY, MIB, PART_MAX, PARTS_MAX, Part, PartedUpload, Sending, part_size

from .conformance.actions import ROOT, get, make, names, path, put
from .over_moto import moto, put_object, shared_moto, uploads

__all__ = ["moto", "shared_moto"]

TIB = 1024**4
CONTENT = os.urandom(20 * MIB + 17)


@pytest.fixture(scope="module")
def shared_backend(shared_moto: MotoServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Backend]:
    with closing(backend_at(shared_moto.server, tmp_path_factory.mktemp("state"), "root")) as backend:
        backend.sweep()
        yield backend


@pytest.fixture
def backend(moto: MotoServer, shared_backend: S3Backend) -> S3Backend:
    return shared_backend


@pytest.fixture(scope="module")
def over_rclone(rclone: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RcloneServer, S3Backend]]:
    """rclone over a directory in which somebody has worked before: it looks once."""
    place = tmp_path_factory.mktemp("rclone")
    root = place / "data" / BUCKET / "root"
    (root / "there" / "inner").mkdir(parents=True)
    (root / "many").mkdir()
    for number in range(1003):
        (root / "many" / f"{number:05}").touch()
    with (
        rclone_s3(rclone, place) as server,
        closing(backend_at(server.server, tmp_path_factory.mktemp("state"), "root")) as backend,
    ):
        yield server, backend


def ranges(moto: MotoServer) -> list[int]:
    """Return how many bytes each GET of an object has asked for."""
    asked = [one for method, _, one in moto.seen if method == "GET" and one]
    bounds = [one.removeprefix("bytes=").split("-") for one in asked]
    return [int(last) - int(first) + 1 for first, last in bounds]


# ------------------------------------------------------------------------------------------------------- reading


def test_who_reads_in_order_makes_few_large_requests(moto: MotoServer, backend: S3Backend) -> None:
    put_object(moto, "root/file", CONTENT)
    moto.seen.clear()
    with backend.open_read(path("file")) as reader:
        pieces = [reader.read_at(offset, MIB) for offset in range(0, len(CONTENT), MIB)]
    assert b"".join(pieces) == CONTENT
    assert ranges(moto) == [8 * MIB, len(CONTENT) - 8 * MIB]


def test_who_begins_at_the_beginning_waits_for_a_distant_server_once(moto: MotoServer, backend: S3Backend) -> None:
    """The second request is on its way before anything of it is read."""
    put_object(moto, "root/file", CONTENT)
    moto.seen.clear()
    with backend.open_read(path("file")) as reader:
        assert reader.read_at(0, MIB) == CONTENT[:MIB]
        eventually(lambda: ranges(moto), [8 * MIB, len(CONTENT) - 8 * MIB])


def test_who_jumps_about_makes_small_ones(moto: MotoServer, backend: S3Backend) -> None:
    put_object(moto, "root/file", CONTENT)
    moto.seen.clear()
    offsets = [0, 17 * MIB, 3, 9 * MIB + 1, 5 * MIB, len(CONTENT) - 4096, 0]
    with backend.open_read(path("file")) as reader:
        for offset in offsets:
            assert reader.read_at(offset, 4096) == CONTENT[offset : offset + 4096]
    assert ranges(moto) == [4096] * len(offsets)


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let not all of a file of some MiB be on its way at once."""
    monkeypatch.setattr(reading, "GROWTH", 1)


@pytest.mark.usefixtures("small_steps")
def test_a_file_that_is_replaced_between_two_requests_is_no_mixture(moto: MotoServer, backend: S3Backend) -> None:
    put_object(moto, "root/file", b"a" * 12 * MIB)
    with backend.open_read(path("file")) as reader:
        assert reader.read_at(0, MIB) == b"a" * MIB
        put_object(moto, "root/file", b"b" * 12 * MIB)
        with pytest.raises(Unavailable, match="changed while it was read"):
            reader.read_at(MIB, 11 * MIB)


@pytest.mark.usefixtures("small_steps")
def test_a_server_that_knows_no_if_match_is_seen_through(over_rclone: tuple[RcloneServer, S3Backend]) -> None:
    server, backend = over_rclone
    put(backend, "file", b"a" * 3 * MIB)
    with backend.open_read(path("file")) as reader:
        assert reader.read_at(0, MIB) == b"a" * MIB
        server.server.client().put_object(Bucket=BUCKET, Key="root/file", Body=b"b" * 3 * MIB)
        with pytest.raises(Unavailable, match="changed while it was read"):
            reader.read_at(MIB, 2 * MIB)


# ------------------------------------------------------------------------------------------------------- writing


def test_what_is_small_is_one_request_and_what_is_large_comes_in_parts(moto: MotoServer, backend: S3Backend) -> None:
    for content, posts in ((b"x" * IN_MEMORY, 0), (CONTENT, 2)):
        moto.seen.clear()
        with backend.open_write(path("file"), size=len(content)) as writer:
            for offset in range(0, len(content), MIB):
                writer.write(content[offset : offset + MIB])
            writer.commit()
        assert get(backend, "file") == content
        assert [method for method, _, _ in moto.seen].count("POST") == posts
    assert [target for method, target, _ in moto.seen if method == "PUT" and "partNumber=3" in target]
    assert uploads(moto) == []


def test_at_most_four_parts_of_a_stream_are_on_their_way(moto: MotoServer, backend: S3Backend) -> None:
    lock, together = threading.Lock(), threading.Event()
    now, most = set[str](), 0

    def slow(environ: Environ) -> None:
        nonlocal most
        if "partNumber" in environ["QUERY_STRING"]:
            with lock:
                now.add(environ["QUERY_STRING"])
                most = max(most, len(now))
                if len(now) == 4:
                    together.set()
            together.wait(10)
            with lock:
                now.discard(environ["QUERY_STRING"])

    moto.fault = slow
    with backend.open_write(path("file")) as writer:
        for _ in range(60):
            writer.write(b"x" * MIB)
        writer.commit()
    assert most == 4
    assert backend.stat(path("file")).size == 60 * MIB


@pytest.mark.parametrize("fails", ["digest", "length", "abort"])
def test_what_is_not_committed_leaves_no_parts(moto: MotoServer, backend: S3Backend, fails: str) -> None:
    put(backend, "file", b"old")
    size = len(CONTENT) + (fails == "length")
    with backend.open_write(path("file"), size=size, hashes=("sha256",)) as writer:
        writer.write(CONTENT)
        assert uploads(moto) == ["root/file"]
        if fails == "digest":
            with pytest.raises(DigestMismatch):
                writer.commit({"sha256": hashlib.sha256(b"other").digest()})
        if fails == "length":
            with pytest.raises(IncompleteWrite):
                writer.commit()
    assert uploads(moto) == []
    assert (names(backend), get(backend, "file")) == ([b"file"], b"old")


def test_a_part_that_is_refused_ends_the_upload(moto: MotoServer, backend: S3Backend) -> None:
    put(backend, "file", b"old")
    moto.fault = lambda environ: (
        refusal("403 x", "QuotaExceeded") if "partNumber=2" in environ["QUERY_STRING"] else None
    )
    with backend.open_write(path("file"), size=len(CONTENT)) as writer:
        writer.write(CONTENT)
        with pytest.raises(Exception, match="the quota is used up"):
            writer.commit()
    assert uploads(moto) == []
    assert get(backend, "file") == b"old"


@pytest.mark.parametrize("total", [None, 0, 1, 78 * 1024**3, 500 * 1024**3, 5 * TIB])
def test_parts_are_few_enough_and_small_enough(total: int | None) -> None:
    sizes = [part_size(number, total) for number in range(1, PARTS_MAX + 1)]
    assert sum(sizes) >= (5 * TIB if total is None else total)
    assert max(sizes) <= PART_MAX
    assert min(sizes) >= 5 * MIB  # Amazon S3 User Guide, "Multipart upload limits"
    if total is not None and total <= 78 * 1024**3:
        assert set(sizes) == {IN_MEMORY}
    assert sizes[:2000] == [IN_MEMORY] * 2000 or total is not None


def test_a_part_that_is_too_large_for_memory_lies_on_the_disk(
    moto: MotoServer, backend: S3Backend, tmp_path: Path
) -> None:
    store = backend._store
    upload = PartedUpload(store.bucket, "root/file", path("file"), store.threads, store.leftovers)
    for content in (CONTENT[: 12 * MIB], CONTENT[12 * MIB :]):
        part = Part(12 * MIB, tmp_path / "spool")
        assert not isinstance(part.body, bytearray)
        assert part.take(memoryview(content)) == len(content)
        upload.send(part)
    upload.complete({})
    assert get(backend, "file") == CONTENT
    assert list((tmp_path / "spool").iterdir()) == []


# ----------------------------------------------------------------------------------- conditions, and what others do


@pytest.mark.parametrize("content", [b"ours", CONTENT], ids=["one piece", "parts"])
def test_another_program_that_was_first_is_not_overwritten(
    moto: MotoServer, backend: S3Backend, content: bytes
) -> None:
    """It comes between the last look and the act, where only the server can tell."""

    def first(environ: Environ) -> None:
        if environ.get("HTTP_IF_NONE_MATCH") == "*" and "root/file" in environ["PATH_INFO"]:
            moto.fault = None
            put_object(moto, "root/file", b"theirs")

    with backend.open_write(path("file"), if_none_match=True) as writer:
        writer.write(content)
        moto.fault = first
        with pytest.raises(PreconditionFailed):
            writer.commit()
    assert get(backend, "file") == b"theirs"
    assert uploads(moto) == []


def test_a_copy_that_is_too_large_for_one_request_is_made_in_parts(
    moto: MotoServer, backend: S3Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What describes the object comes along."""
    put_object(moto, "root/file", CONTENT, Metadata={"mtime": "1700000000.5"}, ContentType="image/png")
    monkeypatch.setattr(copying, "COPY_MAX", 8 * MIB)
    monkeypatch.setattr(copying, "PART", 6 * MIB)
    assert backend.copy(path("file"), path("copy"), overwrite=False).size == len(CONTENT)
    assert get(backend, "copy") == CONTENT
    told = moto.server.client().head_object(Bucket=BUCKET, Key="root/copy")
    assert (told["Metadata"], told["ContentType"]) == ({"mtime": "1700000000.5"}, "image/png")


# ------------------------------------------------------------------------------------------------------- the tree


def test_keys_of_other_programs_are_a_tree(moto: MotoServer, backend: S3Backend) -> None:
    """Without markers, with the console's, and with names that no tree can have."""
    for key in ("root/a/b/c", "root/console/", "root/d//e", "root/../f", "root/./g", "outside"):
        put_object(moto, key)
    assert names(backend) == [b"a", b"console", b"d"]
    assert (names(backend, "a"), names(backend, "a/b"), names(backend, "console")) == ([b"b"], [b"c"], [])
    assert backend.stat(path("a/b")).is_directory
    assert names(backend, "d") == []
    with pytest.raises(DirectoryNotEmpty):
        backend.remove(path("d"))


def test_a_directory_is_made_as_other_programs_make_it(moto: MotoServer, backend: S3Backend) -> None:
    make(backend, "folder")
    told = moto.server.client().list_objects_v2(Bucket=BUCKET)["Contents"]
    assert [(one["Key"], one["Size"]) for one in told] == [("root/folder/", 0)]


def test_a_directory_outlives_the_last_file_in_it(moto: MotoServer, backend: S3Backend) -> None:
    put_object(moto, "root/a/file")
    put_object(moto, "root/b/file")
    backend.remove(path("a/file"))
    backend.rename(path("b/file"), path("file"), overwrite=False)
    assert (names(backend), names(backend, "a"), names(backend, "b")) == ([b"a", b"b", b"file"], [], [])


def test_an_empty_directory_of_the_disk_behind_rclone_is_one(over_rclone: tuple[RcloneServer, S3Backend]) -> None:
    _, backend = over_rclone
    backend.sweep()
    assert b"there" in names(backend)
    assert names(backend, "there") == [b"inner"]
    assert names(backend, "there/inner") == []
    backend.remove(path("there/inner"))
    backend.remove(path("there"))
    with pytest.raises(NotFound):
        backend.stat(path("there"))


def test_a_key_that_is_both_is_the_file(moto: MotoServer, backend: S3Backend) -> None:
    """However many keys are listed between the one and the other."""
    for key in ("root/a", *(f"root/a!{number:04}" for number in range(3)), "root/a/below", "root/b/below"):
        put_object(moto, key)
    with backend.scan(ROOT) as scan:
        found = [(entry.name, entry.is_directory) for entry in scan if b"!" not in entry.name]
    assert found == [(b"a", False), (b"b", True)]
    assert not backend.stat(path("a")).is_directory


def test_a_long_listing_comes_whole_page_by_page(over_rclone: tuple[RcloneServer, S3Backend]) -> None:
    """A page has a thousand keys, whatever batches are asked for."""
    _, backend = over_rclone
    with backend.scan(path("many"), batch=400) as scan:
        batches = [scan.next() for _ in range(4)]
    assert [len(batch) for batch in batches] == [400, 400, 203, 0]
    assert len({entry.name for batch in batches for entry in batch}) == 1003


class Endless:
    """A bucket with many keys, as its listing shows them."""

    def __init__(self, pages: int) -> None:
        self._pages = pages

    def page(self, prefix: str, following: str | None = None) -> Page:
        number = int(following or 0)
        objects = {f"{prefix}{number:06}-{one:04}": Found(1, 0, f"{number}-{one}") for one in range(1000)}
        return Page(objects, [], str(number + 1) if number + 1 < self._pages else None)


def test_the_memory_of_a_listing_does_not_grow_with_it() -> None:
    bucket: Any = Endless(20)
    tracemalloc.start()
    try:
        with S3Scan(bucket, "root/", bucket.page("root/"), 1000) as scan:
            count = sum(1 for _ in scan)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 20_000
    assert peak < 2 * MIB  # a page takes half of one


# --------------------------------------------------------------------------------------------- what a crash leaves

DYING = """
import sys, time
from pathlib import Path
from backends.s3 import KeyFiles, Location, S3Backend
from backends.paths import StoragePath
state = Path(sys.argv[2])
keys = KeyFiles(state / "access-key", state / "secret-key")
backend = S3Backend(Location(bucket="lab-data", prefix="root", endpoint=sys.argv[1]), state, keys=keys)
writer = backend.open_write(StoragePath.parse("file"))
writer.write(b"x" * 20 * 1024 * 1024)
print("written", flush=True)
time.sleep(60)
"""


def test_what_a_killed_process_has_left_is_dropped_at_the_next_start(moto: MotoServer, tmp_path: Path) -> None:
    """Not so the upload of another program to the same key, nor one of a process that lives."""
    client = moto.server.client()
    other = client.create_multipart_upload(Bucket=BUCKET, Key="root/file")["UploadId"]
    client.upload_part(Bucket=BUCKET, Key="root/file", UploadId=other, PartNumber=1, Body=b"theirs")
    with (
        closing(backend_at(moto.server, tmp_path / "state", "root")) as living,
        living.open_write(path("living")) as writer,
    ):
        writer.write(CONTENT)
        command = [sys.executable, "-c", DYING, moto.server.endpoint, str(tmp_path / "state")]
        dying = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert dying.stdout is not None
        assert dying.stdout.readline() == b"written\n"
        assert sorted(uploads(moto)) == ["root/file", "root/file", "root/living"]
        dying.send_signal(signal.SIGKILL)
        dying.wait(10)
        dying.stdout.close()
        with closing(backend_at(moto.server, tmp_path / "state", "root")) as backend:
            assert backend.sweep() == 1
            assert backend.sweep() == 0
        assert sorted(uploads(moto)) == ["root/file", "root/living"]
        assert client.list_parts(Bucket=BUCKET, Key="root/file", UploadId=other)["Parts"][0]["Size"] == 6
    client.abort_multipart_upload(Bucket=BUCKET, Key="root/file", UploadId=other)


def test_an_upload_whose_answer_was_lost_is_found_by_its_path(moto: MotoServer, tmp_path: Path) -> None:
    """The server has begun it, and nobody has been told its id: it has no parts."""
    state = tmp_path / "state"
    with closing(backend_at(moto.server, state, "root")) as backend:
        moto.server.client().create_multipart_upload(Bucket=BUCKET, Key="root/file")
        left = Leftovers(backend._leftovers._journal)
        left.enter(path("file"))
        backend._leftovers._journal._file.close()  # what the kernel does when the process dies
        with closing(backend_at(moto.server, state, "root")) as successor:
            assert successor.sweep() == 1
    assert uploads(moto) == []


def test_nothing_is_left_in_the_journal_when_all_has_ended(moto: MotoServer, tmp_path: Path) -> None:
    with closing(backend_at(moto.server, tmp_path / "state", "root")) as backend:
        put(backend, "file", CONTENT)
        with backend.open_write(path("file")) as writer:
            writer.write(CONTENT)
        assert list((tmp_path / "state").glob("*.journal"))
    assert list((tmp_path / "state").glob("*.journal")) == []


def test_a_part_in_memory_is_sent_in_pieces_without_a_copy() -> None:
    """In one piece, all of it would have to pass within one time-out."""
    content = bytearray(CONTENT[: MIB + 1])
    sending = Sending(content)
    assert (sending.seek(0, io.SEEK_END), sending.seek(0)) == (MIB + 1, 0)
    pieces = list(iter(lambda: sending.read(16 * 1024), b""))
    assert [len(piece) for piece in pieces] == [Sending.PIECE] * 4 + [1]
    assert b"".join(pieces) == content
    assert pieces[0].obj is content


# ----------------------------------------------------------------------------------------------------- connections


@pytest.mark.parametrize(
    ("location", "host"),
    [
        ({"endpoint": "http://s3.lab.example:9000"}, "http://s3.lab.example:9000/lab-data/"),
        ({"endpoint": "http://s3.lab.example:9000", "addressing": "virtual"}, "http://lab-data.s3.lab.example:9000/"),
        ({"endpoint": None, "region": "eu-central-1"}, "https://s3.eu-central-1.amazonaws.com/lab-data/"),
        (
            {"endpoint": None, "region": "eu-central-1", "addressing": "virtual"},
            "https://lab-data.s3.eu-central-1.amazonaws.com/",
        ),
    ],
)
def test_a_bucket_is_addressed_as_the_operator_says(tmp_path: Path, location: dict[str, Any], host: str) -> None:
    """And what only Amazon's servers are known to take is sent to them alone."""
    client = backend_at(1, tmp_path, **location)._bucket._client(1.0)
    assert client.generate_presigned_url("get_object", {"Bucket": BUCKET, "Key": "key"}).startswith(f"{host}key?")
    wanted = "when_required" if location["endpoint"] else "when_supported"
    assert client.meta.config.request_checksum_calculation == wanted
    assert client.meta.config.response_checksum_validation == wanted
