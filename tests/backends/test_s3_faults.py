"""The S3 backend where something fails: the link, the server, its disk, the keys, what the operator has written.

Whatever happens, the old content stays or the new one is whole, the error says in words what is the matter, and when
that has passed the same backend works again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from certificates import self_signed
from faults import disks
from faulty_link import FaultyLink
from s3_servers import (
    BUCKET,
    QUICK,
    SECRET_KEY,
    MotoServer,
    RcloneServer,
    backend_at,
    empty,
    key_files,
    rclone_s3,
    refusal,
)
from sites import free_port

from backends.errors import NotFound, OutOfSpace, StorageError, Unavailable
from backends.interface import Writer
from backends.s3 import KeyFiles, Patience, S3Backend

from .conformance.actions import ROOT, get, names, path, put
from .over_moto import moto, shared_moto

__all__ = ["moto", "shared_moto"]

MIB = 1024 * 1024
CONTENT = os.urandom(20 * MIB + 17)
BOUND = 30.0  # seconds within which everything has ended that waits with QUICK patience


@pytest.fixture(scope="module")
def one_server(rclone: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RcloneServer]:
    with rclone_s3(rclone, tmp_path_factory.mktemp("rclone")) as server:
        yield server


@pytest.fixture
def server(one_server: RcloneServer) -> RcloneServer:
    """The same for all, running whatever became of it in the test before."""
    if not one_server.is_running:
        one_server.start()
    return one_server


@pytest.fixture
def link(server: RcloneServer) -> Iterator[FaultyLink]:
    empty(server.server)
    with FaultyLink(server.server.port) as link:
        yield link


@pytest.fixture
def backend(link: FaultyLink, tmp_path: Path) -> Iterator[S3Backend]:
    with closing(backend_at(link.port, tmp_path / "state", "root")) as backend:
        put(backend, "file", b"old")
        yield backend


@pytest.fixture
def over_moto(moto: MotoServer, tmp_path: Path) -> Iterator[S3Backend]:
    with closing(backend_at(moto.server, tmp_path / "state", "root")) as backend:
        put(backend, "file", b"old")
        yield backend


def write(backend: S3Backend, name: str, content: bytes) -> None:
    with backend.open_write(path(name), size=len(content)) as writer:
        for offset in range(0, len(content), MIB):
            writer.write(content[offset : offset + MIB])
        writer.commit()


def be_quick(backend: S3Backend, patience: Patience = QUICK) -> None:
    """Give the backend other patience: what only takes long on a busy machine is no fault."""
    backend._bucket._patience = patience
    backend._bucket.close()  # the clients that have the old one


def finish(writer: Writer, rest: bytes) -> None:
    writer.write(rest)
    writer.commit()


def every_way_in(backend: S3Backend) -> list[Callable[[], object]]:
    """Return a call of each kind."""
    return [
        lambda: backend.stat(ROOT),
        lambda: backend.stat(path("file")),
        lambda: names(backend),
        lambda: get(backend, "file"),
        lambda: put(backend, "file", b"new"),
        lambda: backend.make_directory(path("folder")),
        lambda: backend.remove(path("file")),
    ]


def fails(call: Callable[[], object], words: str, kind: type[StorageError] = Unavailable) -> None:
    """See that the call ends in time, with these words and without a secret."""
    began = time.monotonic()
    with pytest.raises(kind, match=words) as caught:
        call()
    assert time.monotonic() - began < BOUND
    assert SECRET_KEY not in str(caught.value)
    assert BUCKET in str(caught.value)


# ------------------------------------------------------------------------------------------------------ the link


def test_a_slow_link_is_only_slow(link: FaultyLink, backend: S3Backend) -> None:
    link.latency = 0.1  # each way
    write(backend, "file", CONTENT)
    assert get(backend, "file") == CONTENT
    assert names(backend) == [b"file"]


def test_a_stalled_link_ends_every_call_in_time(link: FaultyLink, backend: S3Backend) -> None:
    be_quick(backend)
    link.stall()
    fails(lambda: backend.stat(path("file")), "stopped answering|does not answer")
    fails(lambda: put(backend, "file", b"new"), "stopped answering|does not answer")
    link.flow()
    assert get(backend, "file") == b"old"


def test_an_upload_over_a_link_that_stalls_leaves_the_old_content(
    link: FaultyLink, backend: S3Backend, tmp_path: Path
) -> None:
    with (
        closing(backend_at(link.port, tmp_path / "quick", "root", patience=QUICK)) as quick,
        quick.open_write(path("file"), size=len(CONTENT)) as writer,
    ):
        writer.write(CONTENT[: 17 * MIB])
        link.stall()
        fails(lambda: finish(writer, CONTENT[17 * MIB :]), "stopped answering|does not answer")
    link.flow()
    assert get(backend, "file") == b"old"
    write(backend, "file", CONTENT)
    assert get(backend, "file") == CONTENT


def test_a_part_that_is_cut_off_in_the_middle_is_sent_again(link: FaultyLink, backend: S3Backend) -> None:
    link.cut_after(5 * MIB, up=True)
    write(backend, "file", CONTENT)
    assert get(backend, "file") == CONTENT


def test_a_download_that_is_cut_off_in_the_middle_goes_on(link: FaultyLink, backend: S3Backend) -> None:
    write(backend, "file", CONTENT)
    with backend.open_read(path("file")) as reader:
        pieces = []
        for offset in range(0, len(CONTENT), MIB):
            if offset in (4 * MIB, 12 * MIB):
                link.cut_after(MIB // 2)
            pieces.append(reader.read_at(offset, MIB))
    assert b"".join(pieces) == CONTENT


def test_a_server_that_restarts_keeps_what_was_acknowledged(server: RcloneServer, backend: S3Backend) -> None:
    """What was being written is not there, and what was there is."""
    with backend.open_write(path("file"), size=len(CONTENT)) as writer:
        writer.write(CONTENT[: 17 * MIB])
        server.stop()
        fails(lambda: backend.stat(path("file")), "cannot be reached|connection was lost")
        server.start()
        with pytest.raises(Unavailable):
            finish(writer, CONTENT[17 * MIB :])
    assert get(backend, "file") == b"old"
    assert names(backend) == [b"file"]
    write(backend, "file", CONTENT)
    server.stop()
    server.start()
    assert get(backend, "file") == CONTENT


# ---------------------------------------------------------------------------------------------------- the server


def test_a_server_that_asks_to_slow_down_is_asked_again(moto: MotoServer, over_moto: S3Backend) -> None:
    left = 2

    def throttle(_: object) -> tuple[str, bytes] | None:
        nonlocal left
        left -= 1
        return refusal("503 Slow Down", "SlowDown") if left >= 0 else None

    moto.fault = throttle
    write(over_moto, "file", CONTENT)
    assert left < 0
    left = 2
    assert get(over_moto, "file") == CONTENT
    left = 1
    with over_moto.open_write(path("new"), if_none_match=True) as writer:
        writer.write(b"new")
        writer.commit()
    assert get(over_moto, "new") == b"new"
    over_moto.remove(path("new"))


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        ("503 Slow Down", "SlowDown", "asks to slow down|is not available"),
        ("500 Internal Server Error", "InternalError", "the server failed"),
        ("400 Bad Request", "ExpiredToken", "the credentials have expired"),
        ("400 Bad Request", "AuthorizationHeaderMalformed", "another region"),
        ("403 Forbidden", "RequestTimeTooSkewed", "the clocks"),
        ("418 I'm a teapot", "ShortAndStout", "not an answer to this"),
    ],
)
def test_a_server_that_goes_on_refusing_is_unavailable_in_words(
    moto: MotoServer, over_moto: S3Backend, status: str, code: str, words: str
) -> None:
    """Also by HEAD, which has no room for the code; at the wrong moment an upload leaves nothing."""
    be_quick(over_moto, Patience(attempts=2))
    moto.fault = lambda _: refusal(status, code)
    for call in every_way_in(over_moto):
        fails(call, words)
    moto.fault = None
    assert get(over_moto, "file") == b"old"
    with over_moto.open_write(path("file"), size=len(CONTENT)) as writer:
        writer.write(CONTENT)
        moto.fault = lambda environ: refusal(status, code) if environ["REQUEST_METHOD"] in ("PUT", "POST") else None
        fails(writer.commit, words)
    moto.fault = None
    assert (names(over_moto), get(over_moto, "file")) == ([b"file"], b"old")
    assert moto.server.client().list_multipart_uploads(Bucket=BUCKET).get("Uploads", []) == []


def test_the_answer_of_a_conditional_write_that_was_lost_is_not_asked_for_again(
    moto: MotoServer, over_moto: S3Backend
) -> None:
    """It would be told that the name is taken, by its own content."""
    moto.seen.clear()
    with over_moto.open_write(path("new"), if_none_match=True) as writer:
        writer.write(b"new")
        moto.fault = lambda environ: refusal("500 x", "InternalError") if environ["REQUEST_METHOD"] == "PUT" else None
        fails(writer.commit, "the server failed")
    assert [method for method, _, _ in moto.seen].count("PUT") == 1
    moto.fault = None
    with pytest.raises(NotFound):
        over_moto.stat(path("new"))


def test_a_full_disk_behind_the_server_keeps_the_old_content(rclone: str, tmp_path: Path) -> None:
    with (
        disks.tmpfs(tmp_path / "data", 16 * MIB),
        rclone_s3(rclone, tmp_path) as server,
        closing(backend_at(server.server, tmp_path / "state", "root")) as backend,
    ):
        put(backend, "file", b"old")
        with pytest.raises((Unavailable, OutOfSpace)):
            write(backend, "file", CONTENT)
        assert (names(backend), get(backend, "file")) == ([b"file"], b"old")
        put(backend, "file", b"new")
        assert get(backend, "file") == b"new"


# ------------------------------------------------------------------------------------ what the operator has written


def test_a_bucket_that_does_not_exist_is_named(server: RcloneServer, moto: MotoServer, tmp_path: Path) -> None:
    for port in (server.server.port, moto.server.port):
        backend = backend_at(port, tmp_path / "state", "root", bucket=f"{BUCKET}-2")
        for call in every_way_in(backend):
            fails(call, "no such bucket \\(`bucket`\\)")


def test_wrong_keys_are_said_to_be_wrong_until_the_files_hold_others(server: RcloneServer, tmp_path: Path) -> None:
    """A key is renewed while the gateway runs."""
    empty(server.server)
    keys = key_files(tmp_path, secret="not-the-secret-of-alice")
    with closing(backend_at(server.server, tmp_path / "state", "root", keys=keys)) as backend:
        for call in every_way_in(backend):
            fails(call, "`secret_key_file`")
        key_files(tmp_path, access="nobody-s-access-key")
        fails(lambda: backend.stat(path("file")), "`access_key_file`")
        keys.secret_key.unlink()
        fails(lambda: backend.stat(path("file")), "cannot be read")
        key_files(tmp_path)
        put(backend, "file", b"content")
        assert get(backend, "file") == b"content"


def test_an_endpoint_where_nobody_listens_is_named(tmp_path: Path) -> None:
    port = free_port()
    backend = backend_at(port, tmp_path / "state", patience=QUICK)
    fails(lambda: backend.stat(ROOT), f"127.0.0.1:{port}.*cannot be reached \\(`endpoint`\\)")


def test_a_server_that_speaks_no_s3_is_said_to_be_none(moto: MotoServer, over_moto: S3Backend) -> None:
    moto.fault = lambda _: ("200 OK", b"<html>welcome</html>")
    fails(lambda: names(over_moto), "none of an S3 server")


def test_without_key_files_and_without_an_environment_there_are_no_credentials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moto: MotoServer
) -> None:
    for name in [one for one in os.environ if one.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    backend = backend_at(moto.server, tmp_path / "state", "root", keys=None)
    fails(lambda: backend.stat(ROOT), "no credentials")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "an-access-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret")
    assert backend_at(moto.server, tmp_path / "state", "root", keys=None).stat(ROOT).is_directory


def test_a_certificate_of_a_private_authority_is_believed_if_it_is_named(rclone: str, tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    with rclone_s3(rclone, tmp_path, "--cert", str(certificate), "--key", str(key)) as server:
        at = {"endpoint": f"https://localhost:{server.server.port}", "patience": QUICK}
        with closing(backend_at(server.server, tmp_path / "state", **at)) as backend:
            fails(lambda: backend.stat(ROOT), "certificate is not believed.*`ca_file`")
        with closing(backend_at(server.server, tmp_path / "state", ca_file=certificate, **at)) as backend:
            put(backend, "file", b"content")
            assert get(backend, "file") == b"content"
            assert SECRET_KEY not in repr(vars(backend))


def test_keys_show_in_no_representation(tmp_path: Path) -> None:
    keys = key_files(tmp_path)
    assert isinstance(keys, KeyFiles)
    assert SECRET_KEY not in repr(keys)
