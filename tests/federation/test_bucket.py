"""A folder in a bucket is shared: the other gateway and rclone read and write it, and its files are objects."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pairs import ALICE, BOB, Pair
from rclone_client import RcloneClient
from s3_servers import BUCKET, SECRET_KEY, MotoServer, Server, key_files, rclone_s3
from sites import Site, eventually

CONTENT = os.urandom(20 * 1024 * 1024 + 17)


@dataclass
class Bucket:
    """What other programs see of it."""

    server: Server

    def __getitem__(self, key: str) -> bytes:
        return bytes(self.server.client().get_object(Bucket=BUCKET, Key=f"lab/{key}")["Body"].read())

    def __setitem__(self, key: str, content: bytes) -> None:
        self.server.client().put_object(Bucket=BUCKET, Key=f"lab/{key}", Body=content)


@pytest.fixture(params=["moto", "rclone"])
def bucket(request: pytest.FixtureRequest, rclone: str, tmp_path: Path) -> Iterator[Bucket]:
    with MotoServer() if request.param == "moto" else rclone_s3(rclone, tmp_path) as running:
        yield Bucket(running.server)


@pytest.fixture
def pair(bucket: Bucket, tmp_path: Path) -> Iterator[Pair]:
    keys = key_files(tmp_path)
    section = {"type": "s3", "endpoint": bucket.server.endpoint, "bucket": BUCKET, "prefix": "lab/"}
    section |= {"access_key_file": str(keys.access_key), "secret_key_file": str(keys.secret_key)}
    with Site(tmp_path / "alice", backends={"storage": section}) as alice, Site(tmp_path / "bob") as bob:
        pair = Pair(alice, bob)
        pair.add_users()
        yield pair
        logged = alice.log.read_text()
        assert "Traceback" not in logged
        assert SECRET_KEY not in logged


def test_a_folder_of_a_bucket_is_shared_read_and_written(
    bucket: Bucket, pair: Pair, rclone: str, tmp_path: Path
) -> None:
    bucket["run42/notes.txt"] = b"Beam test, run 42."
    received = pair.accept(pair.share("run42", "read,write"))

    def as_bob(method: str, name: str, body: bytes | None = None, **headers: str) -> Any:
        return pair.bob.http(method, pair.bobs_url(received, name), body, headers, user="bob", password=BOB)

    assert as_bob("GET", "notes.txt").body == b"Beam test, run 42."
    assert as_bob("GET", "notes.txt", Range="bytes=5-8").body == b"test"
    assert as_bob("PUT", "large", CONTENT).status == 201
    assert bucket["run42/large"] == CONTENT
    assert as_bob("GET", "large").body == CONTENT
    assert as_bob("MKCOL", "plots").status == 201
    assert as_bob("PUT", "plots/one", b"1").status == 201
    bobs = RcloneClient(rclone, f"{pair.bob.url}{pair.bobs_url(received)}", "bob", BOB)
    bobs("copy", "dav:", tmp_path / "copied")
    assert (tmp_path / "copied" / "large").read_bytes() == CONTENT
    (tmp_path / "copied" / "plots" / "two").write_bytes(b"2")
    bobs("copy", tmp_path / "copied", "dav:")
    assert bucket["run42/plots/two"] == b"2"
    (status,) = pair.alice.json("backend", "list")
    assert (status["type"], status["problem"]) == ("s3", None)


def test_a_bucket_that_is_not_there_is_told_at_the_start_and_on_request(tmp_path: Path) -> None:
    """The gateway serves everything else; who comes to that mount is told to come back."""
    keys = key_files(tmp_path)
    with MotoServer() as moto:
        section = {"type": "s3", "endpoint": moto.server.endpoint, "bucket": "lab-data-2"}
        section |= {"access_key_file": str(keys.access_key), "secret_key_file": str(keys.secret_key)}
        with Site(tmp_path / "site", backends={"storage": section}) as site:
            site.add_user("alice", ALICE)
            (status,) = site.json("backend", "list")
            assert "S3 bucket lab-data-2 at http://127.0.0.1" in status["problem"]
            assert "there is no such bucket (`bucket`)" in status["problem"]
            eventually(lambda: "storage is away" in site.log.read_text(), True)
            answer = site.http("GET", "/dav/files/alice/home/file", user="alice", password=ALICE)
            assert answer.status == 503
