"""litmus passes whole through the gateway in front of a bucket as well, on two servers that have nothing in common."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from s3_servers import MotoServer, Server, backend_at, rclone_s3

from .served import PASSWORD, Served
from .test_litmus import judge


@pytest.fixture(params=["moto", "rclone"])
def server(request: pytest.FixtureRequest, rclone: str, tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "rclone").mkdir()
    with MotoServer() if request.param == "moto" else rclone_s3(rclone, tmp_path / "rclone") as running:
        yield running.server


def test_litmus_passes_whole_on_a_bucket(server: Server, tmp_path: Path) -> None:
    with (
        closing(backend_at(server, tmp_path / "keys", "judged")) as bucket,
        Served(tmp_path, wrap=lambda _: bucket) as served,
    ):
        judge(served.url("/dav/files/alice/home/"), "alice", PASSWORD, tmp_path)
