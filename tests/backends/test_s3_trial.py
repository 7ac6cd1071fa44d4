"""The trial of what an S3 server can do: what it finds, what it leaves behind, and how long others wait for it."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from s3_servers import BUCKET, Environ, MotoServer, backend_at, key_files, rclone_s3, refusal

from backends.errors import PreconditionFailed, Unavailable
from backends.s3 import Patience, S3Backend, abilities
from backends.s3.abilities import Abilities
from backends.s3.bucket import Found
from backends.temporaries import new_name

from .conformance.actions import get, path, put
from .over_moto import begun_now, moto, put_object, shared_moto, uploads

__all__ = ["moto", "shared_moto"]

OF_MOTO = Abilities(True, True, True, False, True)  # compares as Amazon's does, but for If-Match on parts


@pytest.fixture
def backend(moto: MotoServer, tmp_path: Path) -> Iterator[S3Backend]:
    with closing(backend_at(moto.server, tmp_path / "state", "root")) as backend:
        yield backend


def objects(moto: MotoServer) -> list[str]:
    return [one["Key"] for one in moto.server.client().list_objects_v2(Bucket=BUCKET).get("Contents", ())]


def test_what_a_server_can_do_is_tried_out(moto: MotoServer, backend: S3Backend) -> None:
    backend.sweep()
    assert backend._probe.known == OF_MOTO
    assert not backend.features.conditional_write
    assert (objects(moto), uploads(moto)) == ([], [])


def test_a_server_over_a_disk_compares_nothing_and_keeps_no_marker(rclone: str, tmp_path: Path) -> None:
    """And nothing of the trial stays on the disk."""
    with (
        rclone_s3(rclone, tmp_path) as server,
        closing(backend_at(server.server, tmp_path / "state", "root")) as backend,
    ):
        backend.sweep()
        assert backend._probe.known == Abilities(False, False, False, False, False)
        assert [one.name for one in server.directory.rglob("*")] == [BUCKET]


def test_the_feature_is_declared_where_every_condition_is_kept(moto: MotoServer, tmp_path: Path) -> None:
    def as_amazon(environ: Environ) -> tuple[str, bytes] | None:
        is_end = environ["REQUEST_METHOD"] == "POST" and "uploadId" in environ["QUERY_STRING"]
        return refusal("412 x", "PreconditionFailed") if is_end and environ.get("HTTP_IF_MATCH") else None

    moto.fault = as_amazon
    with closing(backend_at(moto.server, tmp_path / "state")) as backend:
        assert not backend.features.conditional_write  # nobody has asked yet
        backend.sweep()
        assert backend.features.conditional_write


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


# -------------------------------------------------------------------------------------------- what a crash leaves

DYING = """
import sys
from dataclasses import replace
from pathlib import Path
from backends.s3 import KeyFiles, Location, S3Backend
state = Path(sys.argv[2])
keys = KeyFiles(state / "access-key", state / "secret-key")
S3Backend(Location(bucket="lab-data", prefix="root", endpoint=sys.argv[1]), state, keys=keys).sweep()
"""


def kill_when(moto: MotoServer, state: Path, request: str) -> None:
    """Kill a process in its trial when it makes such a request, which then is not done."""
    reached, killed = threading.Event(), threading.Event()

    def hold(environ: Environ) -> tuple[str, bytes] | None:
        if not re.search(request, f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}?{environ['QUERY_STRING']}"):
            return None
        reached.set()
        killed.wait(20)
        return refusal("503 x", "SlowDown")

    moto.fault = hold
    state.mkdir()
    key_files(state)
    with subprocess.Popen([sys.executable, "-c", DYING, moto.server.endpoint, str(state)]) as dying:
        assert reached.wait(20)
        dying.kill()
    killed.set()
    moto.fault = None


@pytest.mark.parametrize(
    ("request_", "left"),
    [("^POST .*uploadId=", (1, 1)), ("^GET .*prefix=.*ocm-gateway-[0-9a-f]+(/|%2F)", (2, 0))],
    ids=["an object and an upload", "an object and a marker"],
)
def test_what_a_killed_process_has_left_of_its_trial_is_removed_after_a_day(
    moto: MotoServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request_: str, left: tuple[int, int]
) -> None:
    """Before, it may be that of a process that lives; and what others have begun stays in any case."""
    others = ["root/.ocm-gateway-notes", "root/file"]
    for key in others:
        moto.server.client().create_multipart_upload(Bucket=BUCKET, Key=key)
    kill_when(moto, tmp_path / "state", request_)
    there = objects(moto), uploads(moto)
    assert (len(there[0]), len(there[1]) - len(others)) == left
    with closing(backend_at(moto.server, tmp_path / "state", "root")) as young:
        begun_now(young)
        young.sweep()
    assert (objects(moto), uploads(moto)) == there
    monkeypatch.setattr(abilities, "STALE_AFTER", -60)
    with closing(backend_at(moto.server, tmp_path / "state", "root")) as later:
        later.sweep()
    assert (objects(moto), sorted(uploads(moto))) == ([], others)


def test_a_trial_of_which_the_server_tells_no_time_may_live(
    moto: MotoServer, backend: S3Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = f"root/{new_name().decode()}"
    put_object(moto, key)
    walk = backend._bucket.walk

    def timeless(prefix: str) -> Iterator[tuple[str, Found]]:
        return ((key, replace(found, modified=0)) for key, found in walk(prefix))

    monkeypatch.setattr(backend._bucket, "walk", timeless)
    backend.sweep()
    assert objects(moto) == [key]


def test_who_may_not_look_for_leftovers_can_try_all_the_same(moto: MotoServer, backend: S3Backend) -> None:
    moto.fault = lambda environ: (
        refusal("403 x", "AccessDenied")
        if environ["REQUEST_METHOD"] == "GET" and environ["QUERY_STRING"].startswith("uploads")
        else None
    )
    backend.sweep()
    assert backend._probe.known == OF_MOTO


# ------------------------------------------------------------------------------------------------------ who waits


def test_writers_that_wait_for_a_trial_on_a_server_that_hangs_share_its_failure(
    moto: MotoServer, tmp_path: Path
) -> None:
    """Nobody waits for more than one; and the next one finds out."""
    go_on = threading.Event()
    tried: list[str] = []
    failed: list[Unavailable] = []

    def hang(environ: Environ) -> None:
        if environ["REQUEST_METHOD"] == "PUT":
            tried.append(environ["PATH_INFO"])
            go_on.wait(20)

    def write() -> None:
        with pytest.raises(Unavailable, match="stopped answering") as caught:
            backend.open_write(path("file"))
        failed.append(caught.value)

    patience = Patience(connect=1.0, read=2.0, attempts=1)
    with closing(backend_at(moto.server, tmp_path / "state", "root", patience=patience)) as backend:
        moto.fault = hang
        threads = [threading.Thread(target=write) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        moto.fault = None
        go_on.set()
        assert (len(failed), len(tried)) == (6, 1)
        put(backend, "file", b"new")
        assert get(backend, "file") == b"new"
